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

function stageFrom({ stage, done, total }) {
  return { stage, done, total };
}
