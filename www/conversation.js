// The conversation: questions, streamed answers, and phrases in the colours of what they mean.

import { segments, textOn } from "./pkg/index.js";
import { number, say, text } from "./strings.js";

/** One question and its answer. */
export class Turn {
  #focus;
  #show;
  #answerElement = make("div", "answer");
  #below = make("div", "below");
  #status = make("span");
  #streamed = "";
  #entities = [];
  #computed = false;
  element = make("li", "turn");
  /** @type {import("./pkg/index.js").Answer | null} */
  answer = null;

  /**
   * @param {string} question @param {import("./pkg/index.js").Scene | null} scene what it was asked about
   * @param {import("./focus.js").Focus} focus @param {(turn: Turn) => void} show brings its picture back
   */
  constructor(question, scene, focus, show) {
    this.question = question;
    this.scene = scene;
    this.#focus = focus;
    this.#show = () => show(this);
    const asked = make("p", "asked", question);
    asked.prepend(make("span", "unseen", `${text("you")}: `));
    this.#answerElement.lang = "en";
    this.#answerElement.setAttribute("aria-busy", "true");
    this.#below.append(this.#status);
    this.element.append(asked, this.#answerElement, this.#below);
    focus.listen(() => this.#light());
  }

  /** What goes on, by its text's key. */
  status(key, values = {}) {
    say(this.#status, key, values);
  }

  /** More of the answer. */
  token(piece) {
    this.#streamed += piece;
    this.#answerElement.append(piece);
  }

  /** What comes is computed, not worded by the language model. */
  evidence() {
    this.#computed = true;
  }

  /** A phrase that was tied to things of the picture. */
  entity(entity) {
    this.#entities.push(entity);
    this.#fill(segments(this.#streamed, this.#entities), this.scene?.things ?? []);
  }

  /** The whole answer. */
  done(answer) {
    this.answer = answer;
    this.#fill(answer.segments(), answer.things);
    const { decode_tokens: tokens, decode_tokens_per_second: rate, cancelled } = answer.stats;
    if (cancelled) this.end("stopped");
    else if (rate > 0) this.end("stats", { tokens: tokens + 1, rate: number(rate, 1) });
    else this.end(this.#computed ? "computed" : "");
    this.#below.append(this.#copyButton());
  }

  /** No more comes. */
  end(key, values = {}) {
    this.#answerElement.setAttribute("aria-busy", "false");
    this.status(key, values);
  }

  #fill(parts, things) {
    this.#answerElement.replaceChildren(...parts.map(({ text: words, entity }) => (
      things[entity?.things[0]] ? this.#phrase(words, entity, things) : document.createTextNode(words))));
    this.#light();
  }

  #phrase(words, entity, things) {
    const { color, lightColor } = things[entity.things[0]];
    const button = make("button", "phrase", words);
    button.type = "button";
    button.dataset.things = JSON.stringify(entity.things);
    button.style.setProperty("--dark", color);
    button.style.setProperty("--light", lightColor);
    button.style.setProperty("--on-dark", textOn(color));
    this.#focus.attach(button, entity.things, this.#show);
    return button;
  }

  /** Phrases of things in focus light up. */
  #light() {
    const { things, pinned } = this.#focus;
    for (const button of this.#answerElement.querySelectorAll(".phrase")) {
      const own = JSON.parse(button.dataset.things);
      button.classList.toggle("lit", own.some((index) => things.includes(index)));
      button.setAttribute("aria-pressed", String(own.some((index) => pinned.includes(index))));
    }
  }

  #copyButton() {
    const button = make("button");
    say(button, "copy");
    button.type = "button";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(this.answer.text).then(
        () => say(button, "copied"),
        () => { getSelection()?.selectAllChildren(this.#answerElement); },
      );
    });
    return button;
  }
}

/** An element with a class and a text; texts of the model only ever enter the page this way. */
export function make(tag, className = "", words = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (words) element.textContent = words;
  return element;
}
