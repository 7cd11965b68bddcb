// Diagnostics: each network alone, on a picture, a sound or a prompt, whatever comes of it. Not needed to ask questions.

import { BuboError, checkOptions } from "./error.js";
import { links } from "./link.js";
import { decodePicture, decodeSound } from "./media.js";

/**
 * Runs stages one after the other, once the bundle is loaded, and measures what their networks give.
 * @param {import("./index.js").Bubo} bubo @param {object} [options] see stages.d.ts
 * @returns {Promise<object[]>}
 */
export async function runStages(bubo, options = {}) {
  checkOptions("runStages", options,
    ["stages", "image", "audio", "phrases", "box", "question", "system", "tokens", "onReport", "signal"]);
  const { stages, image, audio, phrases, box, question, system, tokens, onReport, signal } = options;
  const picture = image === undefined ? null : (await decodePicture(image, signal)).image;
  const sound = audio === undefined ? null : await decodeSound(audio, signal);
  const reports = [];
  const transfer = [picture, sound?.samples.buffer].filter(Boolean);
  // Undefined members do not reach the worker.
  const given = JSON.parse(JSON.stringify({ stages, phrases, box_px: box, question, system, tokens }));
  const command = { type: "stages", options: given, bitmap: picture, samples: sound?.samples, sampleRate: sound?.sampleRate };
  await linkOf(bubo).call(command, {
    signal,
    transfer,
    onEvent: (event) => {
      const report = reportFrom(event);
      reports.push(report);
      onReport?.(report);
    },
  });
  return reports;
}

/** What the GPU did so far and holds now; null on the processor. */
export async function gpuCounters(bubo) {
  return countersFrom(await linkOf(bubo).call({ type: "gpu" }));
}

/** Holds every kernel on small inputs against the processor; what failed, null on the processor. */
export function gpuSelfTest(bubo) {
  return linkOf(bubo).call({ type: "gpu_self_test" });
}

function linkOf(bubo) {
  const link = links.get(bubo);
  if (!link) throw new BuboError("input", "the first argument must be a Bubo, as Bubo.load gives it");
  return link;
}

function reportFrom({ stage, elapsed_ms, outputs, spoken, gpu }) {
  return {
    stage,
    seconds: elapsed_ms / 1000,
    outputs,
    spoken: spoken && {
      promptTokens: spoken.prompt_tokens,
      readSeconds: spoken.read_ms / 1000,
      tokenIds: spoken.token_ids,
      decodeSeconds: spoken.decode_ms / 1000,
    },
    gpu: countersFrom(gpu),
  };
}

function countersFrom(gpu) {
  return gpu && { dispatches: gpu.dispatches, readBacks: gpu.read_backs, bytesInUse: gpu.bytes_in_use, bytesFree: gpu.bytes_free };
}
