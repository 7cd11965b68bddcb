// The model: what it is before anything is fetched, how it arrives, where it runs.

import { Bubo, BuboError } from "./pkg/index.js";
import { make } from "./conversation.js";
import { hasText, number, size, text, wait } from "./strings.js";

const element = (id) => document.getElementById(id);
/** Faults after which the worker is of no use. */
const FATAL = ["internal", "gpu", "out-of-memory", "closed"];

/** Loads the model when it is first needed, and shows how far that is. */
export class ModelPanel {
  #url;
  #description = null;
  #opening = null;
  #bubo = null;
  #abort = new AbortController();
  #state = "modelReading";
  #onError;
  #onFresh;

  /**
   * @param {URL} url of the bundle @param {(error: BuboError) => void} onError
   * @param {(chat: import("./pkg/index.js").Chat, bubo: Bubo) => void} onFresh called with each new conversation with a model
   */
  constructor(url, onError, onFresh) {
    this.#url = url;
    this.#onError = onError;
    this.#onFresh = onFresh;
    element("load").addEventListener("click", () => this.chat().catch(() => {}));
    element("stop-loading").addEventListener("click", () => this.#abort.abort());
  }

  /** Reads what the bundle is; a model that is on this device already starts by itself. */
  async look() {
    this.#show("modelReading");
    try {
      this.#description = await Bubo.describe(this.#url);
    } catch (error) {
      this.#show("modelMissing");
      this.#onError(error);
      return;
    }
    this.#show("modelFacts");
    if (this.#description.cachedBytes >= this.#description.bytes) await this.chat().catch(() => {});
  }

  /** The conversation with the model, which starts to load if it has not yet. */
  chat() {
    this.#opening ??= this.#open();
    return this.#opening;
  }

  /** The model, once it is started. @type {Bubo | null} */
  get bubo() {
    return this.#bubo;
  }

  /** Whether there is a conversation to clear. */
  get started() {
    return this.#bubo !== null;
  }

  /** Whether all parts are in. */
  get canAnswer() {
    return this.#state === "modelReady";
  }

  /** Takes note of an error that a command ended with: after some, the model has to be loaded again. */
  failed(error) {
    if (FATAL.includes(error.code) && this.#bubo) this.#drop("modelFailed");
  }

  /** All words; again after a change of language. */
  describe() {
    this.#show(this.#state);
  }

  async #open() {
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    try {
      this.#description ??= await Bubo.describe(this.#url, { signal });
      this.#show("modelLoading");
      this.#fillParts();
      const bubo = await Bubo.open(this.#url, {
        signal,
        onProgress: (progress) => this.#showProgress(progress),
        onPart: (part) => this.#showPart(part, 1, text("ready")),
      });
      this.#bubo = bubo;
      bubo.ready.then(() => this.#show("modelReady"), (error) => this.#loadingFailed(error));
      const chat = bubo.chat();
      this.#onFresh(chat, bubo);
      return chat;
    } catch (error) {
      this.#loadingFailed(error);
      throw error;
    }
  }

  #loadingFailed(error) {
    const stopped = error.code === "cancelled";
    this.#drop(stopped ? "modelStopped" : "modelFailed");
    if (!stopped) this.#onError(error);
  }

  #drop(state) {
    this.#bubo?.close();
    this.#bubo = this.#opening = null;
    this.#show(state);
  }

  #show(state) {
    this.#state = state;
    const { name = "", bytes = 0, cachedBytes = 0, licences = [] } = this.#description ?? {};
    const cached = bytes > 0 && cachedBytes >= bytes;
    const facts = cached ? "modelCached" : cachedBytes > 0 ? "modelPartlyCached" : "modelFacts";
    const device = text(this.#bubo?.device === "webgpu" ? "onWebgpu" : "onWasm");
    element("model-facts").textContent = text(state === "modelFacts" ? facts : state, {
      name, size: size(bytes), rest: size(bytes - cachedBytes), device, licences: [...new Set(licences.map(licenceWords))].join(", "),
    });
    const button = { modelFacts: cached ? "loadCached" : "load", modelStopped: "resume", modelFailed: "again", modelMissing: "again" }[state];
    element("load").hidden = !button;
    if (button) element("load").textContent = text(button, { size: size(bytes - cachedBytes) });
    element("stop-loading").hidden = state !== "modelLoading";
    element("progress").hidden = state !== "modelLoading";
    const notes = [`note_${this.#bubo?.deviceReason?.replaceAll("-", "_")}`, this.#bubo?.cacheFault ? "note_no_cache" : ""].filter(hasText);
    element("device-note").hidden = notes.length === 0;
    element("device-note").textContent = notes.map((note) => text(note)).join(" ");
    element("licences").replaceChildren(...licences.map(({ part, spdx, source }) => (
      make("li", "", `${text(`part_${part}`)}: ${licenceWords({ spdx })}${source ? ` (${source})` : ""}`))));
  }

  #fillParts() {
    element("progress-all").removeAttribute("value");
    element("progress-words").textContent = "";
    element("parts").replaceChildren(...this.#description.parts.map(({ name }) => {
      const item = make("li");
      const words = make("span", "", text(`part_${name}`));
      const bar = make("progress");
      item.dataset.part = name;
      words.append(make("small", "", text("waiting")));
      bar.max = 1;
      bar.value = 0;
      bar.setAttribute("aria-label", text(`part_${name}`));
      item.append(words, bar);
      return item;
    }));
  }

  #showProgress(progress) {
    const { part, loaded, total, partLoaded, partTotal, bytesPerSecond, secondsLeft, fromCache } = progress;
    element("progress-all").value = total > 0 ? loaded / total : 0;
    element("progress-words").textContent = text(fromCache ? "progressCache" : Number.isFinite(secondsLeft) ? "progressRate" : "progress", {
      loaded: size(loaded), total: size(total), rate: size(bytesPerSecond), left: Number.isFinite(secondsLeft) ? wait(secondsLeft) : "",
    });
    if (part) this.#showPart(part, partTotal > 0 ? partLoaded / partTotal : 0, `${number((100 * partLoaded) / (partTotal || 1))} %`);
  }

  #showPart(part, value, words) {
    const item = element("parts").querySelector(`[data-part="${CSS.escape(part)}"]`);
    if (!item) return;
    item.querySelector("progress").value = value;
    item.querySelector("small").textContent = words;
  }
}

/** SPDX's word for "nobody has said" is none that people know. */
function licenceWords({ spdx }) {
  return spdx === "NOASSERTION" ? text("noLicence") : spdx;
}
