/**
 * Measures how this browser takes bundles of the paper's size into WebGPU and runs their stages; `cargo xtask full-size`
 * makes the bundles and calls it:
 *
 *     node tests/browser/full-size.js WHOLE/bundle.json PLANNED_BYTES CUT/bundle.json PLANNED_BYTES
 *
 * The first bundle has every block; of it, the stages run that a processor can play a GPU for within minutes. The second has
 * the first blocks of each trunk, at full width; all its stages run. It keeps 5 GB in the browser's storage until it ends.
 *
 * Seconds are of this machine and this moment. It fails where a number is not finite, the wasm module takes more memory than
 * promised, or the GPU's memory is not what was planned.
 */

import { cpus, totalmem } from "node:os";
import { openBrowser } from "./harness.js";

/** Bytes of main memory that loading may take. */
const MOST_WASM_BYTES = 256e6;
/** Share by which a plan may be off. */
const MOST_OFF = 0.05;

const [whole, wholePlanned, cut, cutPlanned] = process.argv.slice(2);
const faults = [];

const browser = await openBrowser(["--disable-gpu-watchdog"]);
try {
  const { page: first } = await browser.open("pkg/package.json");
  const version = await first.evaluate(() => navigator.userAgent.match(/Chrome\/[\d.]+/)[0]);
  console.log(`${cpus()[0].model}, ${cpus().length} cores, ${(totalmem() / 2 ** 30).toFixed(0)} GiB, ${version}`);
  await measured(first, whole, Number(wholePlanned), [
    { stages: ["audio_encoder", "audio_qformer", "segmenter"] },
    // Nothing but a few words: every position takes seven billion multiply-adds.
    { stages: ["language"], system: "", question: "Hi", tokens: 3 },
  ]);
  await first.close();
  const { page: second } = await browser.open("pkg/package.json");
  await measured(second, cut, Number(cutPlanned), [{ system: "" }]);
} finally {
  await browser.close();
}
for (const fault of faults) console.log(`FAULT: ${fault}`);
process.exitCode = faults.length > 0 ? 1 : 0;

/** Loads a bundle and runs stages of it, telling of each as it ends. */
async function measured(page, bundle, planned, runs) {
  console.log(`\n${bundle}`);
  page.setDefaultTimeout(0);
  await page.exposeFunction("tellStage", (report) => tellStage(bundle, report));
  const { bytes, seconds, wasm, heap, gpu } = await page.evaluate(load, `/${bundle}`);
  tell("streamed, hashed, kept, put on the GPU", `${mb(bytes)} in ${seconds.toFixed(1)} s, ${mb(bytes / seconds)} a second`);
  tell("memory of the wasm module, at its peak", mb(wasm));
  tell("JavaScript heap, beside the worker's", mb(heap));
  const off = planned / gpu.bytesInUse - 1;
  tell("GPU memory of the weights, as the engine counts", `${mib(gpu.bytesInUse)}; planned ${mib(planned)}, off by ${(off * 100).toFixed(2)} %`);
  if (wasm > MOST_WASM_BYTES) faults.push(`${bundle}: the wasm module took ${mb(wasm)} while loading`);
  if (!(Math.abs(off) <= MOST_OFF)) faults.push(`${bundle}: the plan is off by ${(off * 100).toFixed(2)} %`);
  for (const run of runs) await page.evaluate(runThem, run);
  const after = await page.evaluate(memory);
  tell("memory of the wasm module, after the stages", mb(after.wasm));
  tell("GPU memory then, in use and kept for reuse", `${mib(after.gpu.bytesInUse)} and ${mib(after.gpu.bytesFree)}`);
}

function tellStage(bundle, { stage, seconds, outputs, spoken, gpu }) {
  const shapes = outputs.map(({ name, dims, finite, rms }) => `${name} ${dims.join("×")} ${finite ? "finite" : "NOT FINITE"}, rms ${rms.toPrecision(3)}`);
  const words = spoken
    ? [`read ${spoken.promptTokens} positions in ${spoken.readSeconds.toFixed(1)} s`, `${spoken.tokenIds.length} tokens in ${spoken.decodeSeconds.toFixed(1)} s`]
    : [];
  tell(stage, [`${seconds.toFixed(1)} s`, `${gpu?.dispatches} dispatches`, ...shapes, ...words].join("; "));
  if (!outputs.every(({ finite }) => finite)) faults.push(`${bundle}: ${stage} gives numbers that are not finite`);
}

function tell(name, value) {
  console.log(`${name.padEnd(48)} ${value}`);
}

function mb(bytes) {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}

function mib(bytes) {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

/** In the page. */
async function load(address) {
  const { Bubo } = await import("/pkg/index.js");
  const { gpuCounters } = await import("/pkg/stages.js");
  let bytes = 0;
  const start = performance.now();
  globalThis.bubo = await Bubo.load(address, { device: "webgpu", onProgress: (progress) => { bytes = progress.total; } });
  const seconds = (performance.now() - start) / 1000;
  // The module's memory only grows, so that what it has now is its peak.
  return { bytes, seconds, wasm: await bubo.memoryBytes(), heap: performance.memory.usedJSHeapSize, gpu: await gpuCounters(bubo) };
}

/** In the page. */
async function runThem(options) {
  const { runStages } = await import("/pkg/stages.js");
  const image = new ImageData(480, 360);
  image.data.forEach((_, at) => { image.data[at] = at % 4 === 3 ? 255 : (at * 7) % 251; });
  const audio = { samples: Float32Array.from({ length: 96000 }, (_, at) => Math.sin(at * 0.2) * 0.3), sampleRate: 16000 };
  await runStages(bubo, { image, audio, onReport: tellStage, ...options });
}

/** In the page. */
async function memory() {
  const { gpuCounters } = await import("/pkg/stages.js");
  return { wasm: await bubo.memoryBytes(), gpu: await gpuCounters(bubo) };
}
