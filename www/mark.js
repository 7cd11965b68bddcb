// A box that is drawn over the picture, by pointer or by the arrow keys.

import { text } from "./strings.js";

const LEAST_PX = 8;

/** Lets a part of the picture be marked. */
export class Mark {
  #view;
  #element;
  #from = null;
  /** Left, top, right, bottom in pixels of the picture; null while nothing is marked. @type {number[] | null} */
  box = null;

  /** @param {import("./picture.js").PictureView} view @param {HTMLElement} element the frame, laid over the canvas */
  constructor(view, element) {
    this.#view = view;
    this.#element = element;
    const canvas = view.canvas;
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#drag(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { this.#from = null; });
    element.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#place()).observe(canvas);
  }

  /** Begins with the middle of the picture, which the keyboard can move from. */
  start() {
    const { width, height } = this.#view.scene;
    this.#view.marking = true;
    this.box ??= [0.25 * width, 0.25 * height, 0.75 * width, 0.75 * height];
    this.describe();
    this.#place();
  }

  end() {
    this.#view.marking = false;
    this.box = this.#from = null;
    this.#place();
  }

  /** Again after a change of language. */
  describe() {
    this.#element.setAttribute("aria-label", text("markLabel"));
  }

  #begin(event) {
    if (!this.#view.marking) return;
    event.preventDefault();
    this.#from = this.#view.point(event);
    event.target.setPointerCapture(event.pointerId);
  }

  #drag(event) {
    if (!this.#from) return;
    const [x, y] = this.#view.point(event);
    const { width, height } = this.#view.scene;
    const within = (value, most) => Math.max(0, Math.min(value, most));
    const [x0, y0] = this.#from;
    const box = [within(Math.min(x0, x), width), within(Math.min(y0, y), height), within(Math.max(x0, x), width), within(Math.max(y0, y), height)];
    if (box[2] - box[0] < LEAST_PX || box[3] - box[1] < LEAST_PX) return;
    this.box = box;
    this.#place();
  }

  /** Arrows move the box, with Shift they move its right and lower edge. */
  #key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step || !this.box) return;
    event.preventDefault();
    const sides = [this.#view.scene.width, this.#view.scene.height];
    const box = [...this.box];
    for (const axis of [0, 1]) {
      const way = step[axis] * Math.max(2, 0.03 * sides[axis]);
      const [low, high] = [box[axis], box[axis + 2]];
      if (event.shiftKey) {
        box[axis + 2] = Math.max(low + LEAST_PX, Math.min(high + way, sides[axis]));
      } else {
        const moved = Math.max(-low, Math.min(way, sides[axis] - high));
        box[axis] += moved;
        box[axis + 2] += moved;
      }
    }
    this.box = box;
    this.#place();
  }

  #place() {
    this.#element.hidden = !this.box || !this.#view.scene;
    if (this.#element.hidden) return;
    const [left, top] = this.#view.place(this.box[0], this.box[1]);
    const [right, bottom] = this.#view.place(this.box[2], this.box[3]);
    Object.assign(this.#element.style, { left: `${left}px`, top: `${top}px`, width: `${right - left}px`, height: `${bottom - top}px` });
  }
}
