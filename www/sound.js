// The sound: its waveform, its spectrogram, what is heard along it, and a player.

import { number, text } from "./strings.js";

const element = (id) => document.getElementById(id);
/** Samples of one spectrum: 32 ms at 16 kHz. */
const WINDOW = 512;
const LANES = 8;

/** Shows a sound that the model hears. */
export class SoundView {
  #audio = new Audio();
  #address = "";
  #duration = 0;
  /** @type {import("./pkg/index.js").Hearing | null} */
  hearing = null;

  constructor() {
    const seek = element("seek");
    element("play").addEventListener("click", () => this.#toggle());
    seek.addEventListener("input", () => this.#moveTo(Number(seek.value)));
    element("plots").addEventListener("click", (event) => {
      const bounds = element("plots").getBoundingClientRect();
      this.#moveTo(((event.clientX - bounds.left) / bounds.width) * this.#duration);
    });
    for (const name of ["play", "pause", "ended"]) this.#audio.addEventListener(name, () => this.describe());
    this.#audio.addEventListener("play", () => this.#follow());
    this.#audio.addEventListener("seeked", () => this.#showTime());
  }

  /** Shows a decoded sound, playable from its file. @param {Blob} file */
  show(hearing, file) {
    this.clear();
    this.#address = URL.createObjectURL(file);
    this.#audio.src = this.#address;
    this.#duration = hearing.duration;
    element("seek").max = String(hearing.duration);
    paintWaveform(element("waveform"), hearing.samples);
    paintSpectrogram(element("spectrogram"), hearing.samples);
    this.hearing = hearing;
    this.describe();
    this.#showTime();
  }

  /** @param {import("./pkg/index.js").Sound[]} sounds what was heard in it */
  heard(sounds) {
    this.hearing.sounds = sounds;
    this.describe();
  }

  clear() {
    this.#audio.pause();
    this.#audio.removeAttribute("src");
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.#address = "";
    this.hearing = null;
    element("heard").replaceChildren();
    delete element("heard").dataset.shown;
  }

  /** All words; again after a change of language. */
  describe() {
    const playing = !this.#audio.paused;
    element("play").setAttribute("aria-pressed", String(playing));
    element("play").setAttribute("aria-label", text(playing ? "pause" : "play"));
    element("seek").setAttribute("aria-label", text("seek"));
    if (this.hearing) this.#fillLanes();
  }

  async #toggle() {
    if (this.#audio.paused) await this.#audio.play().catch(() => {});
    else this.#audio.pause();
  }

  #moveTo(seconds) {
    this.#audio.currentTime = Math.max(0, Math.min(seconds, this.#duration));
    this.#showTime();
  }

  #follow() {
    this.#showTime();
    if (!this.#audio.paused) requestAnimationFrame(() => this.#follow());
  }

  #showTime() {
    const now = this.#audio.currentTime;
    element("seek").value = String(now);
    element("clock").textContent = `${number(now, 1)} / ${number(this.#duration, 1)} s`;
    element("playhead").style.left = `${(100 * now) / (this.#duration || 1)}%`;
  }

  /** One lane a kind of sound, the surest first, with a stretch wherever it is heard. */
  #fillLanes() {
    if (element("heard").dataset.shown === this.#signature()) return;
    element("heard").dataset.shown = this.#signature();
    const lanes = new Map();
    for (const sound of this.hearing.sounds) lanes.set(sound.phrase, [...(lanes.get(sound.phrase) ?? []), sound]);
    const best = (sounds) => Math.max(...sounds.map(({ score }) => score));
    const ordered = [...lanes].sort((a, b) => best(b[1]) - best(a[1])).slice(0, LANES);
    element("heard").replaceChildren(...ordered.map(([tag, sounds]) => this.#lane(tag, sounds, best(sounds))));
  }

  #signature() {
    return document.documentElement.lang + JSON.stringify(this.hearing.sounds);
  }

  #lane(tag, sounds, best) {
    const item = document.createElement("li");
    const name = document.createElement("span");
    const lane = document.createElement("span");
    const score = document.createElement("small");
    name.textContent = tag;
    if (sounds.some(({ taught }) => taught)) {
      name.className = "taught-sound";
      name.title = text("taughtByYou");
    }
    score.textContent = `${number(best * 100)} %`;
    lane.className = "lane";
    for (const sound of sounds) {
      const stretch = document.createElement("button");
      const label = text("heardSound", {
        tag, percent: Math.round(sound.score * 100), start: number(sound.start, 1), end: number(sound.end, 1),
      });
      stretch.type = "button";
      stretch.setAttribute("aria-label", label);
      stretch.title = label;
      stretch.style.left = `${(100 * sound.start) / this.#duration}%`;
      stretch.style.width = `${(100 * (Math.min(sound.end, this.#duration) - sound.start)) / this.#duration}%`;
      stretch.style.opacity = String(0.35 + 0.65 * sound.score);
      stretch.addEventListener("click", () => this.#moveTo(sound.start));
      lane.append(stretch);
    }
    item.append(name, score, lane);
    return item;
  }
}

/** Lowest and highest sample of each column. */
function paintWaveform(canvas, samples) {
  const context = canvas.getContext("2d");
  const middle = canvas.height / 2;
  const loudest = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 1e-3);
  context.fillStyle = "#17110b";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = "#f4a52a";
  for (let x = 0; x < canvas.width; x += 1) {
    const from = Math.floor((x * samples.length) / canvas.width);
    const to = Math.max(from + 1, Math.floor(((x + 1) * samples.length) / canvas.width));
    let low = 0;
    let high = 0;
    for (let at = from; at < to; at += 1) {
      low = Math.min(low, samples[at]);
      high = Math.max(high, samples[at]);
    }
    const top = middle - (high / loudest) * (middle - 4);
    const bottom = middle - (low / loudest) * (middle - 4);
    context.fillRect(x, top, 1, Math.max(1, bottom - top));
  }
}

/** Power by time and mel-spaced frequency, the loudest 70 dB. */
function paintSpectrogram(canvas, samples) {
  const { width, height } = canvas;
  const rows = melRows(height);
  const hann = Float32Array.from({ length: WINDOW }, (_, at) => 0.5 - 0.5 * Math.cos((2 * Math.PI * at) / WINDOW));
  const decibels = new Float32Array(width * height);
  const real = new Float32Array(WINDOW);
  const imaginary = new Float32Array(WINDOW);
  for (let x = 0; x < width; x += 1) {
    const from = Math.round(((x + 0.5) * samples.length) / width) - WINDOW / 2;
    for (let at = 0; at < WINDOW; at += 1) real[at] = (samples[from + at] ?? 0) * hann[at];
    imaginary.fill(0);
    transform(real, imaginary);
    for (let y = 0; y < height; y += 1) {
      const [bin, between] = rows[y];
      const power = (at) => real[at] ** 2 + imaginary[at] ** 2;
      const value = power(bin) * (1 - between) + power(bin + 1) * between;
      decibels[y * width + x] = 10 * Math.log10(value + 1e-10);
    }
  }
  const loudest = decibels.reduce((most, value) => Math.max(most, value), -60);
  const image = new ImageData(width, height);
  for (let at = 0; at < decibels.length; at += 1) {
    image.data.set(heat(Math.max(0, 1 + (decibels[at] - loudest) / 70)), 4 * at);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** For each row, from the top: the spectrum's bin and how far towards the next, spaced as ears do from 60 Hz to 7.8 kHz. */
function melRows(height) {
  const mel = (hertz) => 1127 * Math.log1p(hertz / 700);
  const [low, high] = [mel(60), mel(7800)];
  return Array.from({ length: height }, (_, y) => {
    const hertz = 700 * Math.expm1((high - ((y + 0.5) / height) * (high - low)) / 1127);
    const bin = (hertz * WINDOW) / 16000;
    return [Math.floor(bin), bin % 1];
  });
}

/** From night through amber to paper. */
function heat(value) {
  const stops = [[23, 17, 11], [92, 38, 20], [200, 96, 20], [244, 165, 42], [255, 246, 225]];
  const place = Math.min(value, 0.9999) * (stops.length - 1);
  const [from, to] = [stops[Math.floor(place)], stops[Math.floor(place) + 1]];
  return [...from.map((channel, at) => channel + (to[at] - channel) * (place % 1)), 255];
}

/** Fourier transform in place, radix 2 (Cooley and Tukey). */
function transform(real, imaginary) {
  const count = real.length;
  for (let at = 1, mirror = 0; at < count; at += 1) {
    let bit = count >> 1;
    for (; mirror & bit; bit >>= 1) mirror ^= bit;
    mirror ^= bit;
    if (at < mirror) {
      [real[at], real[mirror]] = [real[mirror], real[at]];
      [imaginary[at], imaginary[mirror]] = [imaginary[mirror], imaginary[at]];
    }
  }
  for (let span = 2; span <= count; span *= 2) {
    for (let k = 0; k < span / 2; k += 1) {
      const angle = (-2 * Math.PI * k) / span;
      const [cosine, sine] = [Math.cos(angle), Math.sin(angle)];
      for (let start = k; start < count; start += span) {
        const other = start + span / 2;
        const turnedReal = real[other] * cosine - imaginary[other] * sine;
        const turnedImaginary = real[other] * sine + imaginary[other] * cosine;
        real[other] = real[start] - turnedReal;
        imaginary[other] = imaginary[start] - turnedImaginary;
        real[start] += turnedReal;
        imaginary[start] += turnedImaginary;
      }
    }
  }
}
