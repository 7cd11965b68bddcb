// Bubo in a page: loads a model bundle into a worker, shows it pictures and sounds, asks. Importing this does nothing.

import { Chat, OPENING } from "./chat.js";
import { BuboError, checkOptions } from "./error.js";
import { Link, links } from "./link.js";
import { describe } from "./manifest.js";
import { decodePicture, decodeSound } from "./media.js";
import { Rate } from "./rate.js";

export { Answer, segments } from "./answer.js";
export { Chat } from "./chat.js";
export { draw, hitTest, textOn } from "./draw.js";
export { BuboError } from "./error.js";
export { Mask } from "./mask.js";

const MOST_TAUGHT_BYTES = 16 * 2 ** 20;
const DEVICES = ["auto", "webgpu", "wasm"];

/** A loaded (or loading) model bundle. */
export class Bubo {
  #link;
  #chat = null;

  /** Use {@link Bubo.open} or {@link Bubo.load}. */
  constructor(token) {
    if (token !== OPENING) throw new BuboError("input", "use Bubo.load(url) or Bubo.open(url)");
    this.#link = new Link();
    links.set(this, this.#link);
  }

  /**
   * Reads only a bundle's manifest: what it is, how large, under which licences, and how much is on this device already.
   * @param {string | URL} url of `bundle.json` @param {{signal?: AbortSignal}} [options]
   */
  static async describe(url, options = {}) {
    checkOptions("Bubo.describe", options, ["signal"]);
    return describe(url, options.signal);
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
    // Only pages can ask that the disk's tidying spares the model; a no is no reason not to work.
    navigator.storage?.persist?.().catch(() => {});
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

  /** What was taught, whether more can be, and why it is not kept on this device, if that is so. */
  async taught(options = {}) {
    checkOptions("bubo.taught", options, ["signal"]);
    return this.#link.call({ type: "taught" }, { signal: options.signal });
  }

  /** What was taught as a file, for `importTaught` here or elsewhere. @returns {Promise<Blob>} */
  async exportTaught(options = {}) {
    checkOptions("bubo.exportTaught", options, ["signal"]);
    const json = await this.#link.call({ type: "export_taught" }, { signal: options.signal });
    return new Blob([json], { type: "application/json" });
  }

  /** Adds what such a file holds to what is taught here. @param {Blob | string} source */
  async importTaught(source, options = {}) {
    checkOptions("bubo.importTaught", options, ["signal"]);
    if (typeof source !== "string" && !(source instanceof Blob)) {
      throw new BuboError("input", "what is imported must be a Blob, or the document as a string");
    }
    const blob = typeof source === "string" ? new Blob([source]) : source;
    if (blob.size > MOST_TAUGHT_BYTES) {
      throw new BuboError("input", `the document has ${blob.size} bytes; 16 MiB is the limit`);
    }
    const json = new Uint8Array(await blob.arrayBuffer());
    return this.#changeTaught({ type: "import_taught", json }, options.signal, [json.buffer]);
  }

  /** Forgets what was taught by one name, or everything. @param {string} [name] */
  async forgetTaught(name, options = {}) {
    checkOptions("bubo.forgetTaught", options, ["signal"]);
    if (name !== undefined && typeof name !== "string") throw new BuboError("input", "the name must be a string");
    return this.#changeTaught({ type: "forget_taught", name }, options.signal);
  }

  /** What is shown and heard may be called otherwise then. */
  #changeTaught(command, signal, transfer = []) {
    return this.#link.call(command, { signal, transfer, onEvent: (event) => this.#chat?.follow(event) });
  }

  /** Bytes of main memory that the worker has taken; it takes more when needed and gives none back before `close`. */
  async memoryBytes(options = {}) {
    checkOptions("bubo.memoryBytes", options, ["signal"]);
    return this.#link.call({ type: "memory" }, { signal: options.signal });
  }

  /** Stops all work and gives the memory back. */
  close() {
    this.#link.close();
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
