// The page: brings picture, sound, question and answer together. It uses the package as any page would.

import { BuboError, readAudio, readImage } from "./pkg/index.js";
import { make, Turn } from "./conversation.js";
import { Focus } from "./focus.js";
import { openIntake } from "./intake.js";
import { ModelPanel } from "./model.js";
import { PictureView } from "./picture.js";
import { SoundView } from "./sound.js";
import { TeachPanel } from "./teach.js";
import { currentLanguage, hasText, preferredLanguage, rememberLanguage, say, setLanguage, text } from "./strings.js";

const element = (id) => document.getElementById(id);
const LONGEST_QUESTION = 2000;

setLanguage(preferredLanguage());
element("language").value = currentLanguage();

const focus = new Focus();
const pictureView = new PictureView(focus);
const soundView = new SoundView();
const bundleUrl = new URL(new URLSearchParams(location.search).get("bundle") ?? document.querySelector('meta[name="bubo-bundle"]').content, location.href);
const model = new ModelPanel(bundleUrl, showError, showAgain);
const teachPanel = new TeachPanel(model, pictureView, focus, { current: taughtFrom, onError: showError, download });

/** What is shown to the model now, so that it can be shown again to a new one. */
let picture = null;
let sound = null;
/** @type {Turn[]} */
let turns = [];
let asking = null;

/* Picture and sound */

/** A sense: the same steps for a picture and for a sound. */
async function perceive(kind, file, read, show, add) {
  const before = kind === "picture" ? picture : sound;
  before?.abort.abort();
  const abort = new AbortController();
  hideError();
  say(element(`${kind}-status`), kind === "picture" ? "decoding" : "listening");
  try {
    const decoded = await read(file, { signal: abort.signal });
    if (kind === "picture") picture = { abort, decoded, file };
    else sound = { abort, decoded, file };
    show(decoded);
    showPresence();
    say(element(`${kind}-status`), "waitingForModel");
    await add(await model.chat(), abort.signal);
  } catch (error) {
    say(element(`${kind}-status`), "");
    showError(error);
  }
}

function usePicture(file) {
  return perceive("picture", file, readImage, (decoded) => {
    focus.clear();
    teachPanel.forgetMark();
    pictureView.show({ ...decoded, things: [] });
  }, addPicture);
}

function useSound(file) {
  return perceive("sound", file, readAudio, (decoded) => soundView.show({ ...decoded, sounds: [] }, file), addSound);
}

async function addPicture(chat, signal) {
  const shown = picture;
  // Another conversation with a new model has shown it already.
  if (shown.chat === chat) return shown.scene;
  shown.chat = chat;
  shown.scene = await chat.addImage(shown.decoded.image, {
    signal,
    onStage: (stage) => say(element("picture-status"), ...stageWords(stage)),
    onScene: (scene) => { if (picture === shown) pictureView.show({ ...scene }); },
  });
  if (picture === shown) {
    const count = shown.scene.things.length;
    say(element("picture-status"), count > 0 ? "found" : "nothingFound", { count });
    pictureView.show({ ...shown.scene });
    teachPanel.show();
  }
  return shown.scene;
}

async function addSound(chat, signal) {
  const shown = sound;
  if (shown.chat === chat) return;
  shown.chat = chat;
  const hearing = await chat.addAudio(shown.decoded, {
    signal,
    onStage: (stage) => say(element("sound-status"), ...stageWords(stage)),
    // Called again when something was taught.
    onHearing: ({ sounds }) => { if (sound === shown) soundView.heard(sounds); },
  });
  if (sound !== shown) return;
  say(element("sound-status"), hearing.sounds.length > 0 ? "heard" : "heardNothing");
  shown.hearing = hearing;
  soundView.heard(hearing.sounds);
  teachPanel.show();
}

/** Shows a new model what is on the page. */
function showAgain(chat, bubo) {
  teachPanel.look(bubo);
  for (const [shown, add] of [[picture, addPicture], [sound, addSound]]) {
    if (shown) add(chat, shown.abort.signal).catch(showError);
  }
}

/** Key and values of the words for a stage. */
function stageWords({ stage, done, total }) {
  return [`stage_${stage}`, { done, total, percent: total > 0 ? Math.round((100 * done) / total) : 0 }];
}

/** Shows what there is, and what can be done with it. */
function showPresence() {
  for (const [kind, there] of [["picture", picture], ["sound", sound]]) {
    element(`${kind}-empty`).hidden = Boolean(there);
    element(`${kind}-view`).hidden = !there;
    element(`${kind}-tools`).hidden = !there;
  }
  teachPanel.show();
  element("hint").hidden = turns.length > 0;
  element("talk-tools").hidden = !picture && !sound && turns.length === 0;
  element("save-json").hidden = !turns.some(({ answer }) => answer);
  const asked = new Set(turns.map(({ question }) => question));
  const which = picture && sound ? "both" : picture ? "picture" : sound ? "sound" : null;
  const offered = which ? text(`suggestions_${which}`).filter((question) => !asked.has(question)) : [];
  element("suggestions").replaceChildren(...offered.map((question) => {
    const item = make("li");
    const button = make("button", "", question);
    button.type = "button";
    button.lang = "en";
    button.disabled = Boolean(asking);
    button.addEventListener("click", () => ask(question));
    item.append(button);
    return item;
  }));
}

/* Question and answer */

async function ask(question) {
  if (asking) return;
  if (question.trim() === "") return showError(new BuboError("input", text("emptyQuestion")));
  if (question.length > LONGEST_QUESTION) return showError(new BuboError("input", text("longQuestion", { count: question.length })));
  hideError();
  asking = new AbortController();
  const scene = pictureView.scene;
  const turn = new Turn(question, scene, focus, showTurn);
  turns.push(turn);
  element("turns").append(turn.element);
  element("question").value = "";
  element("send").hidden = true;
  element("stop").hidden = false;
  focus.clear();
  showPresence();
  turn.status("waitingForModel");
  turn.element.scrollIntoView({ block: "nearest", behavior: "smooth" });
  try {
    await follow(turn, (await model.chat()).ask(question, { signal: asking.signal }));
  } catch (error) {
    turn.end(error.code === "cancelled" ? "stopped" : "");
    showError(error);
  }
  asking = null;
  element("send").hidden = false;
  element("stop").hidden = true;
  showPresence();
}

/** Ends the answer under way: what there is of it stays, and is coloured; one that still waits for the model is dropped. */
async function stop() {
  if (model.canAnswer) (await model.chat()).stop();
  else asking?.abort();
}

async function follow(turn, events) {
  for await (const event of events) {
    if (event.type === "stage") turn.status(...stageWords(event));
    else if (event.type === "evidence") turn.evidence();
    else if (event.type === "token") turn.token(event.text);
    else if (event.type === "entity") turn.entity(event);
    else if (event.type === "done") {
      turn.done(event.answer);
      showTurn(turn);
    }
  }
}

/** Brings back the picture that a turn is about, with what its answer names. */
function showTurn(turn) {
  if (turn.scene && turn.answer) pictureView.show(turn.scene, turn.answer);
}

async function remove(kind) {
  const shown = kind === "picture" ? picture : sound;
  shown.abort.abort();
  if (kind === "picture") picture = null;
  else sound = null;
  focus.clear();
  (kind === "picture" ? pictureView : soundView).clear();
  say(element(`${kind}-status`), "");
  showPresence();
  if (!model.started) return;
  const chat = await model.chat();
  await (kind === "picture" ? chat.removeImage() : chat.removeAudio()).catch(showError);
}

async function clear() {
  asking?.abort();
  for (const shown of [picture, sound]) shown?.abort.abort();
  picture = sound = null;
  turns = [];
  element("turns").replaceChildren();
  focus.clear();
  pictureView.clear();
  soundView.clear();
  hideError();
  showPresence();
  if (model.started) await (await model.chat()).clear().catch(showError);
}

/** What the model sees and hears now, as far as it has looked and listened; older answers may show something else. */
function taughtFrom() {
  const scene = picture?.scene ?? null;
  return { scene, hearing: sound?.hearing ?? null, show: () => { if (scene && pictureView.scene?.image !== scene.image) pictureView.show({ ...scene }); } };
}

/* Errors, in words */

function showError(error) {
  if (error.code === "cancelled") return;
  console.error(error);
  model.failed(error);
  const message = error instanceof BuboError ? error.message : String(error);
  const advice = `error_${String(error.code ?? "internal").replaceAll("-", "_")}`;
  const sentence = message.charAt(0).toLocaleUpperCase() + message.slice(1).replace(/[.!]?$/, ".");
  element("alert-words").textContent = hasText(advice) ? `${sentence} ${text(advice)}` : sentence;
  element("alert").hidden = false;
}

function hideError() {
  element("alert").hidden = true;
  element("alert-words").textContent = "";
}

/* What the page listens to */

function download(blob, name) {
  const link = make("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

for (const kind of ["picture", "sound"]) element(`${kind}-remove`).addEventListener("click", () => remove(kind));
element("clear").addEventListener("click", clear);
element("stop").addEventListener("click", stop);
element("alert-close").addEventListener("click", hideError);
element("picture-save").addEventListener("click", async () => download(await pictureView.toPng(), "bubo.png"));
element("save-json").addEventListener("click", () => {
  const { answer } = turns.findLast((turn) => turn.answer);
  download(new Blob([JSON.stringify(answer, null, 1)], { type: "application/json" }), "bubo.json");
});
element("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask(element("question").value);
});
element("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  element("ask").requestSubmit();
});
element("language").addEventListener("change", ({ target }) => {
  rememberLanguage(target.value);
  setLanguage(target.value);
  for (const view of [model, pictureView, soundView]) view.describe();
  teachPanel.show();
  showPresence();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if (asking) stop();
  else focus.clear();
});

showPresence();
model.look();
openIntake({ picture: usePicture, sound: useSound, refuse: showError });
