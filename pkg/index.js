// Bubo in a page: loads a model bundle into a worker, shows it pictures and sounds, asks. Importing this does nothing.

import { Answer, soundsFrom, thingsFrom } from "./answer.js";
import { BuboError, cancelled, checkOptions } from "./error.js";
import { Link } from "./link.js";
import { decodePicture, decodeSound } from "./media.js";
import { Rate } from "./rate.js";

export { Answer, segments } from "./answer.js";
export { draw, hitTest, textOn } from "./draw.js";
export { BuboError } from "./error.js";
export { Mask } from "./mask.js";

const DEVICES = ["auto", "webgpu", "wasm"];
/** Bundle formats that this version reads. */
const FORMATS = [1];

/** A loaded (or loading) model bundle. */
export class Bubo {
  #link;
  #chat = null;

  /** Use {@link Bubo.open} or {@link Bubo.load}. */
  constructor(token) {
    if (token !== OPENING) throw new BuboError("input", "use Bubo.load(url) or Bubo.open(url)");
    this.#link = new Link();
  }

  /**
   * Reads only a bundle's manifest: what it is, how large, under which licences, and how much is on this device already.
   * @param {string | URL} url of `bundle.json` @param {{signal?: AbortSignal}} [options]
   */
  static async describe(url, options = {}) {
    checkOptions("Bubo.describe", options, ["signal"]);
    const manifest = await fetchManifest(url, options.signal);
    const files = [...manifest.shards, ...Object.values(manifest.files ?? {})];
    return {
      name: manifest.name,
      version: manifest.version,
      description: manifest.description ?? "",
      bytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
      cachedBytes: await cachedBytes(files),
      parts: Object.entries(manifest.parts).map(([name, { model }]) => ({ name, model })),
      licences: manifest.licences ?? [],
    };
  }

  /**
   * Starts a worker and the loading of a bundle, and answers as soon as commands can be given: each waits for the parts
   * that it needs. `bubo.ready` tells when all are in.
   */
  static async open(url, options = {}) {
    checkOptions("Bubo.open", options, ["device", "onProgress", "onPart", "signal"]);
    const { device = "auto", onProgress, onPart, signal } = options;
    if (!DEVICES.includes(device)) {
      throw new BuboError("input", `device must be one of ${DEVICES.join(", ")}, not ${JSON.stringify(device)}`);
    }
    const bubo = new Bubo(OPENING);
    const bundleUrl = new URL(url, globalThis.location?.href).href;
    try {
      Object.assign(bubo, await bubo.#link.call({ type: "open", bundleUrl, device }, { signal }));
    } catch (error) {
      bubo.close();
      throw error;
    }
    const rate = new Rate();
    bubo.ready = bubo.#link.call({ type: "load" }, {
      signal,
      onEvent: (event) => {
        if (event.type === "load") onProgress?.(progressFrom(event, rate));
        if (event.type === "part") onPart?.(event.part);
      },
    }).then(() => undefined);
    // The caller may never look at it; an unheard failure also ends each command that waits for a part.
    bubo.ready.catch(() => {});
    return bubo;
  }

  /** Loads a bundle whole. @returns {Promise<Bubo>} */
  static async load(url, options = {}) {
    const bubo = await Bubo.open(url, options);
    try {
      await bubo.ready;
    } catch (error) {
      bubo.close();
      throw error;
    }
    return bubo;
  }

  /** Begins a conversation. There is one at a time: another one ends it. */
  chat(options = {}) {
    checkOptions("bubo.chat", options, Chat.OPTIONS);
    const first = this.#chat === null;
    this.#chat?.end();
    this.#chat = new Chat(OPENING, this.#link, options, first);
    return this.#chat;
  }

  /** Stops all work and gives the memory back. */
  close() {
    this.#link.close();
  }
}

const OPENING = Symbol("opening");

/** A conversation about pictures and sounds. */
export class Chat {
  static OPTIONS = ["maxTokens", "temperature", "topP", "topK", "repetitionPenalty", "seed", "evidence"];
  #link;
  /** Ends the answers under way, leaving what there is of them. @type {Set<() => void>} */
  #enders = new Set();
  #options;
  #things = [];
  #ended = false;

  constructor(token, link, options, first) {
    if (token !== OPENING) throw new BuboError("input", "use bubo.chat()");
    this.#link = link;
    this.#options = generationOptions(options);
    if (!first) link.call({ type: "clear" }).catch(() => {});
  }

  /**
   * Shows a picture; answers with what is seen in it, boxes and masks, before any question.
   * @param {Blob | URL | string | ImageBitmapSource} source
   * @param {{signal?: AbortSignal, onScene?: (scene: object) => void, onStage?: (stage: object) => void}} [options]
   *   `onScene` is called with the scene each time that more of it is known
   */
  async addImage(source, options = {}) {
    checkOptions("chat.addImage", options, ["signal", "onScene", "onStage"]);
    this.#checkOpen();
    const { signal, onScene, onStage } = options;
    const scene = { ...await decodePicture(source, signal), things: [] };
    onScene?.(scene);
    const forWorker = await createImageBitmap(scene.image);
    await this.#link.call({ type: "add_image", bitmap: forWorker }, {
      signal,
      transfer: [forWorker],
      onEvent: (event) => {
        if (event.type === "stage") onStage?.(stageFrom(event));
        if (event.type !== "things") return;
        this.#things = scene.things = thingsFrom(event.things, scene.things);
        onScene?.(scene);
      },
    });
    return scene;
  }

  /**
   * Plays a sound to the model; answers with what is heard and when.
   * @param {Blob | URL | string | AudioBuffer | {samples: Float32Array, sampleRate: number}} source
   * @param {{signal?: AbortSignal, onHearing?: (hearing: object) => void, onStage?: (stage: object) => void}} [options]
   *   `onHearing` is called once the sound is decoded, and again when it has been listened to
   */
  async addAudio(source, options = {}) {
    checkOptions("chat.addAudio", options, ["signal", "onHearing", "onStage"]);
    this.#checkOpen();
    const { signal, onHearing, onStage } = options;
    const hearing = { ...await decodeSound(source, signal), sounds: [] };
    onHearing?.(hearing);
    const forWorker = hearing.samples.slice();
    await this.#link.call({ type: "add_audio", samples: forWorker, sampleRate: hearing.sampleRate }, {
      signal,
      transfer: [forWorker.buffer],
      onEvent: (event) => {
        if (event.type === "stage") onStage?.(stageFrom(event));
        if (event.type !== "sounds") return;
        hearing.sounds = soundsFrom(event.sounds);
        onHearing?.(hearing);
      },
    });
    return hearing;
  }

  /**
   * Asks; yields `stage`, `evidence`, `token`, `entity` and at last `done`. Leaving the loop stops the work.
   * @param {string} question @param {{signal?: AbortSignal}} [options]
   */
  async *ask(question, options = {}) {
    checkOptions("chat.ask", options, ["signal", ...Chat.OPTIONS]);
    this.#checkOpen();
    if (typeof question !== "string") throw new BuboError("input", "the question must be a string");
    const { signal, ...generation } = options;
    const stop = new AbortController();
    const events = [];
    let wake = () => {};
    let ended = null;
    let end = () => {};
    const call = this.#link.call(
      { type: "ask", question, options: { ...this.#options, ...generationOptions(generation) } },
      {
        signal: signal ? AbortSignal.any([signal, stop.signal]) : stop.signal,
        onStart: (cancel) => { end = cancel; },
        onEvent: (event) => {
          const made = this.#answerEvent(event);
          if (made) events.push(made);
          wake();
        },
      },
    );
    this.#enders.add(end);
    call.then(() => { ended = {}; }, (error) => { ended = { error }; }).then(() => wake());
    try {
      while (true) {
        while (events.length > 0) yield events.shift();
        if (ended?.error) throw ended.error;
        if (ended) return;
        await new Promise((resolve) => { wake = resolve; });
      }
    } finally {
      this.#enders.delete(end);
      if (!ended) stop.abort();
    }
  }

  /** Ends the answer under way early: its loop ends with `done` and what there is, `stats.cancelled` being true. */
  stop() {
    for (const end of this.#enders) end();
  }

  /** Takes the picture out of the conversation. */
  async removeImage(options = {}) {
    checkOptions("chat.removeImage", options, ["signal"]);
    this.#checkOpen();
    this.#things = [];
    await this.#link.call({ type: "remove_image" }, { signal: options.signal });
  }

  /** Takes the sound out of the conversation. */
  async removeAudio(options = {}) {
    checkOptions("chat.removeAudio", options, ["signal"]);
    this.#checkOpen();
    await this.#link.call({ type: "remove_audio" }, { signal: options.signal });
  }

  /** Forgets the conversation, its pictures and its sounds. */
  async clear(options = {}) {
    checkOptions("chat.clear", options, ["signal"]);
    this.#checkOpen();
    this.#things = [];
    await this.#link.call({ type: "clear" }, { signal: options.signal });
  }

  /** Called by the next conversation. */
  end() {
    this.#ended = true;
  }

  #checkOpen() {
    if (this.#ended) throw new BuboError("closed", "another conversation has begun; use that one");
  }

  #answerEvent(event) {
    switch (event.type) {
      case "token": return { type: "token", text: event.text };
      case "entity": return { type: "entity", phrase: event.phrase, start: event.start, end: event.end, things: event.things };
      case "evidence": return { type: "evidence", evidence: event.evidence };
      case "stage": return { type: "stage", ...stageFrom(event) };
      case "done": {
        this.#things = thingsFrom(event.answer.things ?? [], this.#things);
        const answer = new Answer(event.answer, this.#things);
        return { type: "done", answer, stats: answer.stats };
      }
      default: return null;
    }
  }
}

/** Decodes a picture as `addImage` does, whose source the image can then be. Needs no model. */
export async function readImage(source, options = {}) {
  checkOptions("readImage", options, ["signal"]);
  return decodePicture(source, options.signal);
}

/** Decodes a sound as `addAudio` does, whose source the result can then be. Needs no model. */
export async function readAudio(source, options = {}) {
  checkOptions("readAudio", options, ["signal"]);
  return decodeSound(source, options.signal);
}

function generationOptions(options) {
  const names = {
    maxTokens: "max_tokens", temperature: "temperature", topP: "top_p", topK: "top_k", repetitionPenalty: "repetition_penalty", seed: "seed",
  };
  const named = {};
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue;
    if (name === "evidence") {
      if (typeof value !== "boolean") throw new BuboError("input", `evidence must be true or false, not ${JSON.stringify(value)}`);
      named.evidence = value;
      continue;
    }
    if (typeof value !== "number" || !Number.isFinite(value) || value < 0) {
      throw new BuboError("input", `${name} must be a number, 0 or more, not ${JSON.stringify(value)}`);
    }
    named[names[name]] = value;
  }
  return named;
}

function stageFrom({ stage, done, total }) {
  return { stage, done, total };
}

function progressFrom(event, rate) {
  rate.add(event.loaded);
  return {
    part: event.part,
    loaded: event.loaded,
    total: event.total,
    partLoaded: event.part_loaded,
    partTotal: event.part_total,
    fromCache: event.from_cache,
    bytesPerSecond: rate.perSecond,
    secondsLeft: rate.perSecond > 0 ? (event.total - event.loaded) / rate.perSecond : Infinity,
  };
}

async function fetchManifest(url, signal) {
  let response;
  try {
    response = await fetch(url, { signal, cache: "no-cache" }).catch(async (cause) => {
      if (!signal?.aborted) return new Response(await cachedManifest(url));
      throw cause;
    });
  } catch (cause) {
    if (signal?.aborted) throw cancelled();
    throw new BuboError("fetch", `the model bundle could not be fetched; check the address and the network: ${url}`, { cause });
  }
  if (!response.ok) {
    throw new BuboError("fetch", `the model bundle's address answered ${response.status}; check that a bundle.json is there: ${url}`);
  }
  let manifest;
  try {
    manifest = await response.json();
  } catch (cause) {
    if (signal?.aborted) throw cancelled();
    throw new BuboError("corrupt", `what lies at the model bundle's address is not a bundle.json; check the address: ${url}`, { cause });
  }
  if (!FORMATS.includes(manifest?.format)) {
    throw new BuboError("unsupported", `the bundle's format is ${JSON.stringify(manifest?.format)}; this version of Bubo knows ${FORMATS.join(", ")}. Use another bundle, or a newer Bubo`);
  }
  if (!Array.isArray(manifest.shards) || typeof manifest.parts !== "object") {
    throw new BuboError("corrupt", `the bundle.json lacks "shards" or "parts"; get it again: ${url}`);
  }
  return manifest;
}

/** The manifest that the worker kept of this address, for days without a network. */
async function cachedManifest(url) {
  const address = new TextEncoder().encode(new URL(url, globalThis.location?.href).href);
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", address));
  const key = Array.from(hash.subarray(0, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return (await (await cacheFolder()).getFileHandle(`manifest-${key}`)).getFile();
}

/** Where the worker keeps files, under the names of their hashes. */
async function cacheFolder() {
  const root = await navigator.storage.getDirectory();
  return root.getDirectoryHandle("bubo");
}

/** Bytes of these files that the worker's cache holds; `.part` marks an unfinished one. */
async function cachedBytes(files) {
  try {
    const folder = await cacheFolder();
    const size = async (name) => (await (await folder.getFileHandle(name)).getFile()).size;
    const sizes = files.map(({ sha256 }) => size(sha256).catch(() => size(`${sha256}.part`)).catch(() => 0));
    return (await Promise.all(sizes)).reduce((sum, bytes) => sum + bytes, 0);
  } catch {
    // No storage, or none used yet.
    return 0;
  }
}
