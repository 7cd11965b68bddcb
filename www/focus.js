// Which things are pointed at or pinned; picture and words follow it together.

export class Focus {
  #hovered = [];
  #pinned = [];
  #listeners = [];

  /** Things in the light now: those pointed at, else those pinned. */
  get things() {
    return this.#hovered.length > 0 ? this.#hovered : this.#pinned;
  }

  /** Things that stay lit. */
  get pinned() {
    return this.#pinned;
  }

  /** @param {number[]} things none: nothing is pointed at */
  hover(things) {
    if (same(things, this.#hovered)) return;
    this.#hovered = things;
    this.#tell();
  }

  /** Pins these, or unpins them if they are. @param {number[]} things */
  pin(things) {
    this.#pinned = same(things, this.#pinned) ? [] : things;
    this.#tell();
  }

  clear() {
    this.#hovered = this.#pinned = [];
    this.#tell();
  }

  /** @param {() => void} listener called after each change */
  listen(listener) {
    this.#listeners.push(listener);
  }

  /** Makes a button light up its things while pointed at or focused, and pin them on click. @param {HTMLButtonElement} button @param {number[]} things */
  attach(button, things, before = () => {}) {
    const light = () => {
      before();
      this.hover(things);
    };
    button.addEventListener("pointerenter", light);
    button.addEventListener("pointerleave", () => this.hover([]));
    button.addEventListener("focus", light);
    button.addEventListener("blur", () => this.hover([]));
    button.addEventListener("click", () => {
      before();
      this.pin(things);
    });
  }

  #tell() {
    for (const listener of this.#listeners) listener();
  }
}

function same(a, b) {
  return a.length === b.length && a.every((value, at) => value === b[at]);
}
