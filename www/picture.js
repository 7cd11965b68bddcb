// The picture: painted with what is in it, explored by pointer and keyboard.

import { draw, hitTest } from "./pkg/index.js";
import { number, text } from "./strings.js";

const element = (id) => document.getElementById(id);

/** Shows a scene, and which of its things are in focus. */
export class PictureView {
  #canvas = element("canvas");
  #list = element("things");
  #focus;
  /** @type {import("./pkg/index.js").Scene | null} */
  scene = null;
  /** What is painted: the scene, or an answer about it. */
  #found = null;
  #painting = false;
  /** Whether a part is being marked: then the pointer draws and points at nothing. */
  marking = false;

  /** @param {import("./focus.js").Focus} focus */
  constructor(focus) {
    this.#focus = focus;
    focus.listen(() => this.#paintSoon());
    new ResizeObserver(() => this.#paintSoon()).observe(this.#canvas);
    this.#canvas.addEventListener("pointermove", (event) => focus.hover(this.#under(event)));
    this.#canvas.addEventListener("pointerleave", () => focus.hover([]));
    this.#canvas.addEventListener("click", (event) => { if (!this.marking) focus.pin(this.#under(event)); });
  }

  get canvas() {
    return this.#canvas;
  }

  /** Shows a scene, or more of it, or what an answer names in it. */
  show(scene, found = scene) {
    this.scene = scene;
    this.#found = found;
    this.#fillList();
    this.describe();
    this.#paintSoon();
  }

  clear() {
    this.scene = this.#found = null;
    this.#list.replaceChildren();
    delete this.#list.dataset.signature;
  }

  /** The canvas's name for those who do not see it; again after a change of language. */
  describe() {
    const things = this.#found?.things ?? [];
    this.#canvas.setAttribute("aria-label", things.length === 0
      ? text("pictureLabelEmpty")
      : text("pictureLabel", { count: things.length, things: things.map(({ tag }) => tag).join(", ") }));
  }

  /** The picture at its own size, painted as it is now. @returns {Promise<Blob>} */
  async toPng() {
    const { image, width, height } = this.scene;
    const canvas = new OffscreenCanvas(width, height);
    draw(canvas, image, this.#found, this.#highlight());
    return canvas.convertToBlob({ type: "image/png" });
  }

  /** Things under the pointer: the one on top. */
  #under(event) {
    if (!this.#found || this.marking) return [];
    return hitTest(this.#found.things, ...this.point(event)).slice(0, 1);
  }

  /** The place of the picture that an event points at. @returns {[number, number]} */
  point({ clientX, clientY }) {
    const bounds = this.#canvas.getBoundingClientRect();
    const { scale, left, top } = this.#fit(bounds);
    return [(clientX - bounds.left - left) / scale, (clientY - bounds.top - top) / scale];
  }

  /** Where a place of the picture is on the canvas, in CSS pixels. @returns {[number, number]} */
  place(x, y) {
    const { scale, left, top } = this.#fit(this.#canvas.getBoundingClientRect());
    return [left + x * scale, top + y * scale];
  }

  /** The canvas keeps the picture's proportions within its box, centred. */
  #fit(bounds) {
    const { width, height } = this.scene;
    const scale = Math.min(bounds.width / width, bounds.height / height);
    return { scale, left: (bounds.width - width * scale) / 2, top: (bounds.height - height * scale) / 2 };
  }

  #highlight() {
    const lit = this.#focus.things;
    return lit.length > 0 ? { highlight: lit } : {};
  }

  #paintSoon() {
    if (this.#painting || !this.scene) return;
    this.#painting = true;
    requestAnimationFrame(() => {
      this.#painting = false;
      if (this.scene) this.#paint();
    });
  }

  #paint() {
    const { image, width, height } = this.scene;
    // As many pixels as the screen shows, and no more than the picture has twice over.
    const shown = Math.min(this.#canvas.clientWidth || 640, (this.#canvas.clientHeight || 640) * (width / height) + 1);
    const scale = Math.min((Math.max(shown, 160) * devicePixelRatio) / width, 2, 2400 / Math.max(width, height));
    const target = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
    if (this.#canvas.width !== target[0] || this.#canvas.height !== target[1]) [this.#canvas.width, this.#canvas.height] = target;
    const perCssPx = devicePixelRatio;
    draw(this.#canvas, image, this.#found, { lineWidth: 2.5 * perCssPx, fontPx: 13 * perCssPx, ...this.#highlight() });
    for (const button of this.#list.querySelectorAll("button")) {
      const index = Number(button.dataset.thing);
      button.classList.toggle("lit", this.#focus.things.includes(index));
      button.setAttribute("aria-pressed", String(this.#focus.pinned.includes(index)));
    }
  }

  #fillList() {
    const signature = JSON.stringify(this.#found.things.map(({ tag, score, color, taught }) => [tag, score, color, taught]));
    // Masks that arrive later change nothing here, and the keyboard's place in the list is kept.
    if (this.#list.dataset.signature === signature) return;
    this.#list.dataset.signature = signature;
    const items = this.#found.things.map((thing, index) => {
      const button = document.createElement("button");
      const score = document.createElement("small");
      button.type = "button";
      button.dataset.thing = String(index);
      button.style.setProperty("--dark", thing.color);
      button.style.setProperty("--light", thing.lightColor);
      score.textContent = `${number(thing.score * 100)} %`;
      button.append(thing.tag, score);
      if (thing.taught) {
        button.classList.add("taught-thing");
        button.title = text("taughtByYou");
      }
      this.#focus.attach(button, [index]);
      const item = document.createElement("li");
      item.append(button);
      return item;
    });
    this.#list.replaceChildren(...items);
  }
}
