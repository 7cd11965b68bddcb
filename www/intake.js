// Ways in: files, drops, pastes, samples, the microphone.

import { BuboError } from "./pkg/index.js";
import { make } from "./conversation.js";
import { hasText, text } from "./strings.js";

const element = (id) => document.getElementById(id);
const LONGEST_RECORDING_S = 60;

/** What becomes of what comes in. @type {{picture: (file: Blob) => void, sound: (file: Blob) => void, refuse: (error: BuboError) => void}} */
let use;

/** Opens all ways in. @param {typeof use} handlers */
export function openIntake(handlers) {
  use = handlers;
  chooser("picture");
  chooser("sound");
  element("record").addEventListener("click", record);
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    markDrop(event.target.closest?.(".sense"));
  });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) markDrop(null); });
  document.addEventListener("drop", dropped);
  document.addEventListener("paste", (event) => {
    for (const file of event.clipboardData.files) useFile(file);
  });
  fillSamples();
}

function useFile(file, place) {
  if (file.type.startsWith("image/") || (place === "picture" && !file.type.startsWith("audio/"))) return use.picture(file);
  if (/^(audio|video)\//.test(file.type) || place === "sound") return use.sound(file);
  return use.refuse(new BuboError("input", text("notPictureOrSound", { name: file.name })));
}

function chooser(kind) {
  const input = element(`${kind}-file`);
  for (const id of [`${kind}-choose`, `${kind}-other`]) element(id).addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    const [file] = input.files;
    input.value = "";
    if (file) use[kind](file);
  });
}

function dropped(event) {
  event.preventDefault();
  const place = event.target.closest?.(".sense")?.id;
  markDrop(null);
  for (const file of event.dataTransfer.files) useFile(file, place);
}

function markDrop(section) {
  for (const sense of document.querySelectorAll(".sense")) sense.classList.toggle("over", sense === section);
}

async function fillSamples() {
  const list = new URL(document.querySelector('meta[name="bubo-samples"]').content, location.href);
  const response = await fetch(list).catch(() => null);
  // A site without samples is a page without samples.
  if (!response?.ok) return;
  const { pictures, sounds } = await response.json();
  for (const sample of pictures) addSample("picture", new URL(sample.file, list).href, sample);
  for (const sample of sounds) addSample("sound", new URL(sample.file, list).href, sample);
}

function addSample(kind, address, { file, name, credit }) {
  const key = `sample_${name}`;
  const button = make("button");
  button.type = "button";
  button.title = text("sampleCredit", { name, credit });
  if (kind === "picture") {
    const thumbnail = make("img");
    thumbnail.src = address;
    thumbnail.alt = "";
    button.append(thumbnail);
  }
  const words = make("span", "", hasText(key) ? text(key) : name);
  if (hasText(key)) words.dataset.text = key;
  button.append(words);
  button.addEventListener("click", () => useSample(kind, address, file));
  const item = make("li");
  item.append(button);
  element(`${kind}-samples`).append(item);
  element(`${kind}-samples-title`).hidden = false;
}

async function useSample(kind, address, name) {
  try {
    const response = await fetch(address);
    if (!response.ok) throw new BuboError("fetch", `the sample could not be fetched: ${response.status} ${address}`);
    const blob = await response.blob();
    const file = new File([blob], name, { type: blob.type });
    await use[kind](file);
  } catch (error) {
    use.refuse(BuboError.from(error, "fetch"));
  }
}

let recorder = null;

async function record() {
  if (recorder) {
    recorder.stop();
    return;
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch (error) {
    use.refuse(new BuboError("input", text("noMicrophone", { reason: error.message })));
    return;
  }
  const pieces = [];
  let seconds = 0;
  const say = () => { element("record-words").textContent = text("recordStop", { n: seconds }); };
  const clock = setInterval(() => {
    seconds += 1;
    say();
    if (seconds >= LONGEST_RECORDING_S) recorder?.stop();
  }, 1000);
  recorder = new MediaRecorder(stream);
  recorder.addEventListener("dataavailable", ({ data }) => pieces.push(data));
  recorder.addEventListener("stop", () => {
    clearInterval(clock);
    for (const track of stream.getTracks()) track.stop();
    const { mimeType } = recorder;
    recorder = null;
    element("record").classList.remove("recording");
    element("record-words").textContent = text("record");
    use.sound(new Blob(pieces, { type: mimeType }));
  });
  recorder.start();
  element("record").classList.add("recording");
  say();
}
