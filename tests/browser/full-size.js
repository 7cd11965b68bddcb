/**
 * Prints how this browser takes a bundle of the paper's size into WebGPU: `node tests/browser/full-size.js` from the root,
 * after `bubo synth --out bundles/bubogpt-7b-random`. It keeps 4.8 GB in the browser's storage until it ends.
 *
 * Figures are of this machine and this moment; nothing here passes or fails.
 */

import { cpus } from "node:os";
import { openBrowser } from "./harness.js";

const bundle = process.argv[2] ?? "bundles/bubogpt-7b-random/bundle.json";
const browser = await openBrowser();
try {
  const { page } = await browser.open("pkg/package.json");
  page.setDefaultTimeout(0);
  const figures = await page.evaluate(measure, `/${bundle}`);
  console.log(`${cpus()[0].model}, ${cpus().length} cores, ${await page.evaluate(() => navigator.userAgent.match(/Chrome\/[\d.]+/)[0])}`);
  for (const [name, value] of Object.entries(figures)) console.log(`${name.padEnd(44)} ${value}`);
} finally {
  await browser.close();
}

/** In the page. */
async function measure(address) {
  const { Bubo } = await import("/pkg/index.js");
  let total = 0;
  const start = performance.now();
  const bubo = await Bubo.load(address, { device: "webgpu", onProgress: (progress) => { total = progress.total; } });
  const seconds = (performance.now() - start) / 1000;
  return {
    "streamed, hashed, kept, put on the GPU": `${(total / 1e6).toFixed(0)} MB in ${seconds.toFixed(1)} s`,
    "a second": `${(total / 1e6 / seconds).toFixed(0)} MB`,
    "memory of the wasm module, at its peak": `${((await bubo.memoryBytes()) / 1e6).toFixed(0)} MB`,
    "JavaScript heap, beside the worker's": `${(performance.memory.usedJSHeapSize / 1e6).toFixed(0)} MB`,
  };
}
