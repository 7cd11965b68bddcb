// How fast something arrives, over the last few seconds.

const WINDOW_MS = 4000;

export class Rate {
  #samples = [];

  /** @param {number} total arrived so far */
  add(total, now = performance.now()) {
    this.#samples.push({ now, total });
    while (this.#samples.length > 2 && this.#samples[0].now < now - WINDOW_MS) this.#samples.shift();
  }

  /** Per second; 0 until there are two moments to compare. */
  get perSecond() {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    const elapsed = this.#samples.length > 1 ? last.now - first.now : 0;
    return elapsed > 0 ? ((last.total - first.total) * 1000) / elapsed : 0;
  }
}
