// A conversation with a loaded model.

import { Answer, soundsFrom, thingsFrom } from "./answer.js";
import { BuboError, checkOptions } from "./error.js";
import { decodePicture, decodeSound } from "./media.js";

/** Whoever holds this may make conversations. */
export const OPENING = Symbol("opening");

/** A conversation about pictures and sounds. */
export class Chat {
  static OPTIONS = ["maxTokens", "numBeams", "temperature", "topP", "topK", "repetitionPenalty", "seed", "evidence", "matching"];
  #link;
  /** Ends the answers under way, leaving what there is of them. @type {Set<() => void>} */
  #enders = new Set();
  #options;
  #things = [];
  /** What is shown and heard, and who is told when it is called otherwise. */
  #seen = null;
  #heard = null;
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
    const seen = { scene, onScene };
    onScene?.(scene);
    const forWorker = await createImageBitmap(scene.image);
    await this.#link.call({ type: "add_image", bitmap: forWorker }, {
      signal,
      transfer: [forWorker],
      onEvent: (event) => {
        if (event.type === "stage") onStage?.(stageFrom(event));
        this.#seen = seen;
        this.follow(event);
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
    const heard = { hearing, onHearing };
    onHearing?.(hearing);
    const forWorker = hearing.samples.slice();
    await this.#link.call({ type: "add_audio", samples: forWorker, sampleRate: hearing.sampleRate }, {
      signal,
      transfer: [forWorker.buffer],
      onEvent: (event) => {
        if (event.type === "stage") onStage?.(stageFrom(event));
        this.#heard = heard;
        this.follow(event);
      },
    });
    return hearing;
  }

  /**
   * Teaches a name by one example: a thing of the picture, a part of it, the whole picture, or the sound. What is shown
   * and heard is then called by it, and told to `onScene` and `onHearing`.
   * @param {string} name "Rex" or "our doorbell" for one single thing, "thermos" for a kind of thing
   * @param {{thing?: number, box?: number[], sound?: true | [number, number], kind?: string, not?: boolean, signal?: AbortSignal}} [options]
   *   none of `thing`, `box`, `sound`: the whole picture; `not`: it was taken for that and is not
   */
  async teach(name, options = {}) {
    checkOptions("chat.teach", options, ["thing", "box", "sound", "kind", "not", "signal"]);
    this.#checkOpen();
    if (typeof name !== "string") throw new BuboError("input", "the name must be a string");
    const { kind = null, not: counterexample = false, signal } = options;
    const teaching = { name, kind, subject: subjectFrom(options), counterexample };
    return this.#link.call({ type: "teach", teaching }, { signal, onEvent: (event) => this.follow(event) });
  }

  /** Takes note of what is seen and heard now. */
  follow(event) {
    if (event.type === "things") {
      const before = this.#seen?.scene.things ?? [];
      this.#things = thingsFrom(event.things, before);
      if (!this.#seen) return;
      this.#seen.scene.things = this.#things;
      this.#seen.onScene?.(this.#seen.scene);
    }
    if (event.type === "sounds" && this.#heard) {
      this.#heard.hearing.sounds = soundsFrom(event.sounds);
      this.#heard.onHearing?.(this.#heard.hearing);
    }
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
    this.#seen = null;
    await this.#link.call({ type: "remove_image" }, { signal: options.signal });
  }

  /** Takes the sound out of the conversation. */
  async removeAudio(options = {}) {
    checkOptions("chat.removeAudio", options, ["signal"]);
    this.#checkOpen();
    this.#heard = null;
    await this.#link.call({ type: "remove_audio" }, { signal: options.signal });
  }

  /** Forgets the conversation, its pictures and its sounds. */
  async clear(options = {}) {
    checkOptions("chat.clear", options, ["signal"]);
    this.#checkOpen();
    this.#things = [];
    this.#seen = this.#heard = null;
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

function generationOptions(options) {
  const names = {
    maxTokens: "max_tokens", numBeams: "num_beams", temperature: "temperature", topP: "top_p", topK: "top_k", repetitionPenalty: "repetition_penalty", seed: "seed",
  };
  const named = {};
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue;
    if (name === "evidence") {
      if (typeof value !== "boolean") throw new BuboError("input", `evidence must be true or false, not ${JSON.stringify(value)}`);
      named.evidence = value;
      continue;
    }
    if (name === "matching") {
      if (!["lexicon", "model", "both", "original"].includes(value)) {
        throw new BuboError("input", `matching must be lexicon, model, both or original, not ${JSON.stringify(value)}`);
      }
      named.matching = value;
      continue;
    }
    if (typeof value !== "number" || !Number.isFinite(value) || value < 0) {
      throw new BuboError("input", `${name} must be a number, 0 or more, not ${JSON.stringify(value)}`);
    }
    named[names[name]] = value;
  }
  return named;
}

/** What an example is taken from, as the session takes it. */
function subjectFrom({ thing, box, sound }) {
  if ([thing, box, sound].filter((given) => given !== undefined).length > 1) {
    throw new BuboError("input", "give one of thing, box and sound");
  }
  const numbers = (list, count) => Array.isArray(list) && list.length === count && list.every(Number.isFinite);
  if (thing !== undefined) {
    if (!Number.isInteger(thing) || thing < 0) throw new BuboError("input", `thing must be the index of a thing, not ${JSON.stringify(thing)}`);
    return { thing };
  }
  if (box !== undefined) {
    if (!numbers(box, 4)) throw new BuboError("input", "box must be four numbers: left, top, right, bottom in pixels");
    return { box };
  }
  if (sound === true) return "sound";
  if (sound !== undefined) {
    if (!numbers(sound, 2)) throw new BuboError("input", "sound must be true, or two numbers: begin and end in seconds");
    return { span: sound };
  }
  return "picture";
}

function stageFrom({ stage, done, total }) {
  return { stage, done, total };
}
