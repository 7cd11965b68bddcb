// Which pixels of a picture belong to a thing, kept as COCO run lengths.

/** A mask: alternating runs of pixels outside and inside, down the columns, first column first. */
export class Mask {
  /** Ends of the runs, counted from the first pixel; inside lies between ends 0 and 1, 2 and 3, … @type {Uint32Array} */
  #ends;

  /** @param {{size: [number, number], counts: string}} json height, width and COCO's compressed run-length string */
  constructor({ size: [height, width], counts }) {
    this.width = width;
    this.height = height;
    this.counts = counts;
    this.#ends = runEnds(counts, width * height);
  }

  /** Whether the pixel is inside. @param {number} x @param {number} y */
  contains(x, y) {
    if (!(x >= 0 && y >= 0 && x < this.width && y < this.height)) return false;
    const at = Math.floor(x) * this.height + Math.floor(y);
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#ends[middle] <= at) low = middle + 1;
      else high = middle;
    }
    return low % 2 === 1;
  }

  /** Number of pixels inside. */
  get area() {
    let area = 0;
    for (let run = 1; run < this.#ends.length; run += 2) area += this.#ends[run] - this.#ends[run - 1];
    return area;
  }

  /** One byte a pixel, rows from the top: `value` inside, 0 outside. @returns {Uint8Array} */
  toPixels(value = 255) {
    const pixels = new Uint8Array(this.width * this.height);
    this.#eachInside((x, y) => { pixels[y * this.width + x] = value; });
    return pixels;
  }

  /** A picture of the mask in one colour, transparent outside. @param {[number, number, number]} rgb @returns {ImageData} */
  toImageData([red, green, blue]) {
    const image = new ImageData(this.width, this.height);
    const words = new Uint32Array(image.data.buffer);
    const probe = new Uint8Array([red, green, blue, 255]);
    const color = new Uint32Array(probe.buffer)[0];
    this.#eachInside((x, y) => { words[y * this.width + x] = color; });
    return image;
  }

  /** COCO's form. */
  toJSON() {
    return { size: [this.height, this.width], counts: this.counts };
  }

  #eachInside(visit) {
    for (let run = 1; run < this.#ends.length; run += 2) {
      let x = Math.floor(this.#ends[run - 1] / this.height);
      let y = this.#ends[run - 1] % this.height;
      for (let at = this.#ends[run - 1]; at < this.#ends[run]; at += 1) {
        visit(x, y);
        y += 1;
        if (y === this.height) {
          y = 0;
          x += 1;
        }
      }
    }
  }
}

/** Reads COCO's string: five bits a character, the sixth says that more follow; from the third on, differences to the run two before. */
function runEnds(counts, pixels) {
  const runs = [];
  for (let at = 0; at < counts.length;) {
    let value = 0;
    let shift = 0;
    let more = true;
    while (more && at < counts.length) {
      const bits = counts.charCodeAt(at) - 48;
      value |= (bits & 31) << shift;
      shift += 5;
      at += 1;
      more = (bits & 32) !== 0;
      if (!more && (bits & 16) !== 0) value |= -1 << shift;
    }
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  let end = 0;
  return Uint32Array.from(runs, (run) => {
    end = Math.min(pixels, end + Math.max(0, run));
    return end;
  });
}
