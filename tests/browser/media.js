/** Files of every odd kind, made here so that nobody has to trust them. */

import { Buffer } from "node:buffer";
import { crc32, deflateSync } from "node:zlib";

const GREY = 0;
const RGB = 2;
const RGBA = 6;
const CHANNELS = { [GREY]: 1, [RGB]: 3, [RGBA]: 4 };

/**
 * A PNG file.
 *
 * @param {number} width
 * @param {number} height
 * @param {{color?: number, bits?: number, pixel?: (x: number, y: number) => number[]}} [options]
 *   `pixel` gives a value for each channel, 0 to 2^bits − 1; without it all are 0
 */
export function png(width, height, { color = RGB, bits = 8, pixel } = {}) {
  const bytesPerValue = bits / 8;
  const row = Buffer.alloc(1 + width * CHANNELS[color] * bytesPerValue);
  const rows = [];
  for (let y = 0; y < height; y += 1) {
    if (pixel) {
      for (let x = 0; x < width; x += 1) {
        pixel(x, y).forEach((value, channel) => {
          row.writeUIntBE(value, 1 + (x * CHANNELS[color] + channel) * bytesPerValue, bytesPerValue);
        });
      }
    }
    rows.push(Buffer.from(row));
  }
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([bits, color, 0, 0, 0], 8);
  return Buffer.concat([
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    chunk("IHDR", head),
    chunk("IDAT", deflateSync(Buffer.concat(rows), { level: 1 })),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

function chunk(type, data) {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const length = Buffer.alloc(4);
  const check = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  check.writeUInt32BE(crc32(body) >>> 0);
  return Buffer.concat([length, body, check]);
}

/** Pictures of unusual kinds, by name. */
export const oddPictures = {
  grey: () => png(120, 90, { color: GREY, pixel: (x, y) => [(x * 2 + y) % 256] }),
  "16 bits a channel": () => png(120, 90, { bits: 16, pixel: (x, y) => [x * 500, y * 700, 30000] }),
  alpha: () => png(120, 90, { color: RGBA, pixel: (x, y) => [200, 30, 30, (x * y) % 256] }),
  CMYK: () => Buffer.from(cmykJpeg, "base64"),
  "1 × 1": () => png(1, 1, { pixel: () => [10, 200, 30] }),
  "12000 × 9000": () => png(12000, 9000, { color: GREY }),
};

/** A JPEG of four inks, 64 × 48, all red; made with Pillow. */
const cmykJpeg = [
  "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwAQCwwODAoQDg0OEhEQExgoGhgWFhgxIyUdKDozPTw5Mzg3QEhcTkBEV0U3OFBtUVdfYmdoZz5NcXlwZH",
  "hcZWdj/8AAFAgAMABABEMRAE0RAFkRAEsRAP/EAB8AAAEFAQEBAQEBAAAAAAAAAAABAgMEBQYHCAkKC//EALUQAAIBAwMCBAMFBQQEAAABfQEC",
  "AwAEEQUSITFBBhNRYQcicRQygZGhCCNCscEVUtHwJDNicoIJChYXGBkaJSYnKCkqNDU2Nzg5OkNERUZHSElKU1RVVldYWVpjZGVmZ2hpanN0dX",
  "Z3eHl6g4SFhoeIiYqSk5SVlpeYmZqio6Slpqeoqaqys7S1tre4ubrCw8TFxsfIycrS09TV1tfY2drh4uPk5ebn6Onq8fLz9PX29/j5+v/aAA4E",
  "QwBNAFkASwAAPwD0Cuarmq7aiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii",
  "iiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiv//Z",
].join("");

/**
 * A WAV file of 8-bit silence or noise.
 *
 * @param {number} seconds
 * @param {number} [rate] samples a second
 */
export function wav(seconds, rate = 8000) {
  const samples = Math.round(seconds * rate);
  const head = Buffer.alloc(44);
  head.write("RIFF", 0, "latin1");
  head.writeUInt32LE(36 + samples, 4);
  head.write("WAVEfmt ", 8, "latin1");
  head.writeUInt32LE(16, 16);
  head.writeUInt16LE(1, 20);
  head.writeUInt16LE(1, 22);
  head.writeUInt32LE(rate, 24);
  head.writeUInt32LE(rate, 28);
  head.writeUInt16LE(1, 32);
  head.writeUInt16LE(8, 34);
  head.write("data", 36, "latin1");
  head.writeUInt32LE(samples, 40);
  return Buffer.concat([head, Buffer.alloc(samples, 128)]);
}
