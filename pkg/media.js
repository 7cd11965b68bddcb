// Pictures and sounds of every kind that a page can hold, decoded by the browser into what the model reads.

import { BuboError, cancelled, throwIfAborted } from "./error.js";

/** Longest side of the picture that the model and the caller see; larger ones are scaled down. */
const LONGEST_SIDE_PX = 2048;
/** More pixels than this are not decoded: they would take over 600 MB. */
const MOST_PIXELS = 150e6;
const SAMPLE_RATE_HZ = 16000;
const LONGEST_SOUND_S = 600;
const LARGEST_FILE = 512 * 1024 * 1024;

/**
 * Decodes a picture, upright by its EXIF orientation.
 * @returns {Promise<{image: ImageBitmap, width: number, height: number, originalWidth: number, originalHeight: number}>}
 */
export async function decodePicture(source, signal) {
  const input = await fetched(source, "picture", signal);
  if (input instanceof Blob) checkFile(input, "picture");
  const size = await pictureSize(input);
  throwIfAborted(signal);
  if (size && size.width * size.height > MOST_PIXELS) {
    throw new BuboError("input", `the picture has ${size.width} × ${size.height} pixels, which is more than a page can hold; scale it down to 10,000 pixels a side or less`);
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(input, size ? scaledTo(size) : {});
    if (!size && Math.max(bitmap.width, bitmap.height) > LONGEST_SIDE_PX) {
      bitmap = await createImageBitmap(bitmap, scaledTo(bitmap));
    }
  } catch (cause) {
    throw new BuboError("input", pictureRefused(input, size), { cause });
  }
  if (signal?.aborted) {
    bitmap.close();
    throw cancelled();
  }
  const { width, height } = bitmap;
  return { image: bitmap, width, height, originalWidth: size?.width ?? width, originalHeight: size?.height ?? height };
}

/**
 * Decodes a sound to one channel. Web Audio exists in pages only, so a worker must give samples.
 * @returns {Promise<{samples: Float32Array, sampleRate: number, duration: number}>}
 */
export async function decodeSound(source, signal) {
  if (source?.samples !== undefined) return givenSamples(source);
  if (typeof AudioBuffer !== "undefined" && source instanceof AudioBuffer) return mixedDown(source);
  const blob = await fetched(source, "sound", signal);
  if (!(blob instanceof Blob)) {
    throw new BuboError("input", "a sound must be a Blob, a URL, an AudioBuffer or { samples, sampleRate }");
  }
  checkFile(blob, "sound");
  if (typeof OfflineAudioContext === "undefined") {
    throw new BuboError("unsupported", "workers cannot decode sound files; give { samples, sampleRate } or call this in the page");
  }
  checkDuration(await soundDuration(blob, signal));
  let buffer;
  try {
    buffer = await new OfflineAudioContext(1, 1, SAMPLE_RATE_HZ).decodeAudioData(await blob.arrayBuffer());
  } catch (cause) {
    throw new BuboError("input", `${named(blob, "sound")} is not a sound that this browser can read; give a WAV, MP3, OGG, FLAC or M4A file`, { cause });
  }
  throwIfAborted(signal);
  return mixedDown(buffer);
}

/** Follows an address; everything else is passed on. */
async function fetched(source, kind, signal) {
  if (typeof source !== "string" && !(source instanceof URL)) return source;
  try {
    const response = await fetch(source, { signal });
    if (!response.ok) {
      throw new BuboError("fetch", `the ${kind}'s address answered ${response.status}; check it: ${source}`);
    }
    return await response.blob();
  } catch (thrown) {
    if (signal?.aborted) throw cancelled();
    if (thrown instanceof BuboError) throw thrown;
    throw new BuboError("fetch", `the ${kind} could not be fetched; check the address and the network: ${source}`, { cause: thrown });
  }
}

function named(blob, kind) {
  return blob.name ? `“${blob.name}”` : `the ${kind}`;
}

function checkFile(blob, kind) {
  if (blob.size === 0) throw new BuboError("input", `${named(blob, kind)} is empty (0 bytes); choose another file`);
  if (blob.size > LARGEST_FILE) {
    throw new BuboError("input", `${named(blob, kind)} has ${Math.round(blob.size / 1e6)} MB, more than the limit of 512 MB; choose a smaller file`);
  }
}

/** Size before decoding, where the place can tell: an <img> reads only the file's head. */
async function pictureSize(input) {
  if (!(input instanceof Blob)) {
    const width = input?.naturalWidth ?? input?.videoWidth ?? input?.displayWidth ?? input?.width;
    const height = input?.naturalHeight ?? input?.videoHeight ?? input?.displayHeight ?? input?.height;
    if (!(width > 0 && height > 0)) {
      throw new BuboError("input", "a picture must be a Blob, a URL, an ImageBitmap, ImageData, or an <img>, <canvas> or <video> that has loaded");
    }
    return { width, height };
  }
  if (typeof Image === "undefined") return null;
  const address = URL.createObjectURL(input);
  try {
    const image = new Image();
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = reject;
      image.src = address;
    });
    return image.naturalWidth > 0 ? { width: image.naturalWidth, height: image.naturalHeight } : null;
  } catch (cause) {
    throw new BuboError("input", pictureRefused(input, null), { cause });
  } finally {
    URL.revokeObjectURL(address);
  }
}

function scaledTo({ width, height }) {
  const scale = LONGEST_SIDE_PX / Math.max(width, height);
  if (scale >= 1) return {};
  return {
    resizeWidth: Math.max(1, Math.round(width * scale)),
    resizeHeight: Math.max(1, Math.round(height * scale)),
    resizeQuality: "high",
  };
}

function pictureRefused(input, size) {
  const name = input instanceof Blob ? named(input, "picture") : "the picture";
  if (size) return `${name} (${size.width} × ${size.height} pixels) could not be decoded; scale it down or save it again as JPEG or PNG`;
  return `${name} is not a picture that this browser can read; give a JPEG, PNG, WebP, GIF or AVIF file`;
}

function givenSamples({ samples, sampleRate }) {
  const list = samples instanceof Float32Array ? samples : Float32Array.from(samples);
  if (!(sampleRate >= 1000 && sampleRate <= 768000)) {
    throw new BuboError("input", "sampleRate must be the samples a second, between 1,000 and 768,000");
  }
  checkDuration(list.length / sampleRate);
  return { samples: list.slice(), sampleRate: Math.round(sampleRate), duration: list.length / sampleRate };
}

function mixedDown(buffer) {
  checkDuration(buffer.duration);
  const samples = buffer.getChannelData(0).slice();
  for (let channel = 1; channel < buffer.numberOfChannels; channel += 1) {
    const other = buffer.getChannelData(channel);
    for (let at = 0; at < samples.length; at += 1) samples[at] += other[at];
  }
  for (let at = 0; at < samples.length; at += 1) samples[at] /= buffer.numberOfChannels;
  return { samples, sampleRate: buffer.sampleRate, duration: buffer.duration };
}

function checkDuration(seconds) {
  if (seconds === 0) throw new BuboError("input", "the sound lasts no time at all; give one with something to hear");
  if (seconds > LONGEST_SOUND_S) {
    throw new BuboError("input", `the sound lasts ${Math.round(seconds / 60)} minutes; the limit is ${LONGEST_SOUND_S / 60}. Cut out the part that you want to ask about`);
  }
}

/** Seconds, read from the file's head; NaN if it does not say (then decoding tells). */
async function soundDuration(blob, signal) {
  if (typeof Audio === "undefined") return NaN;
  const address = URL.createObjectURL(blob);
  const audio = new Audio();
  try {
    return await new Promise((resolve) => {
      const unknown = setTimeout(() => resolve(NaN), 3000);
      const answer = (seconds) => {
        clearTimeout(unknown);
        resolve(Number.isFinite(seconds) ? seconds : NaN);
      };
      audio.preload = "metadata";
      audio.onloadedmetadata = () => answer(audio.duration);
      audio.onerror = () => answer(NaN);
      signal?.addEventListener("abort", () => answer(NaN), { once: true });
      audio.src = address;
    });
  } finally {
    audio.removeAttribute("src");
    URL.revokeObjectURL(address);
  }
}
