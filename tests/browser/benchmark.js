/**
 * Prints how fast the page's engine is in this browser, on the processor: `node tests/browser/benchmark.js` from the root.
 *
 * Figures are of this machine and this moment; nothing here passes or fails.
 */

import { readFile } from "node:fs/promises";
import { cpus } from "node:os";
import { openBrowser, partFile } from "./harness.js";

const browser = await openBrowser();
try {
  const { page } = await browser.open("pkg/package.json");
  page.setDefaultTimeout(0);
  const picture = (await readFile(partFile("photographs", "astronaut.png"))).toString("base64");
  const sound = (await readFile(partFile("everyday", "train.ogg"))).toString("base64");
  const figures = await page.evaluate(measure, { picture, sound });
  console.log(`${cpus()[0].model}, ${cpus().length} cores, ${await page.evaluate(() => navigator.userAgent.match(/Chrome\/[\d.]+/)[0])}`);
  for (const [name, value] of Object.entries(figures)) console.log(`${name.padEnd(44)} ${value}`);
} finally {
  await browser.close();
}

/** In the page. */
async function measure({ picture, sound }) {
  const { Bubo } = await import("/pkg/index.js");
  const load = () => Bubo.load("/bundles/bubo-mini/bundle.json", { device: "wasm" });
  const timed = async (work) => {
    const start = performance.now();
    const result = await work();
    return [result, performance.now() - start];
  };
  const seconds = (ms) => `${(ms / 1000).toFixed(2)} s`;
  const [first, cold] = await timed(load);
  first.close();
  const [bubo, warm] = await timed(load);
  const chat = bubo.chat({ temperature: 0, evidence: false });
  const photo = await createImageBitmap(await (await fetch(`data:image/png;base64,${picture}`)).blob(), { resizeWidth: 1000, resizeHeight: 1000 });
  let boxes = 0;
  const outlines = [];
  for (let round = 0; round < 3; round += 1) {
    const start = performance.now();
    const [, all] = await timed(() => chat.addImage(photo, { onScene: ({ things }) => { if (things.length > 0 && !things[0].mask) boxes = performance.now() - start; } }));
    outlines.push([boxes, all]);
  }
  const best = outlines.sort((a, b) => a[1] - b[1])[0];
  const train = await (await fetch(`data:audio/ogg;base64,${sound}`)).blob();
  const heard = [];
  for (let round = 0; round < 3; round += 1) heard.push((await timed(() => chat.addAudio(train)))[1]);
  await chat.removeAudio();
  let stats = {};
  for await (const event of chat.ask("Tell a story about the person in the picture.", { maxTokens: 96 })) if (event.type === "done") stats = event.stats;
  const memory = await bubo.memoryBytes();
  return {
    "first start, from this machine's server": seconds(cold),
    "warm start, from the browser's storage": seconds(warm),
    "boxes of a 1-megapixel photograph": seconds(best[0]),
    "outlines of it": seconds(best[1]),
    "what is heard in five seconds of sound": seconds(Math.min(...heard)),
    "prompt": `${stats.prefill_tokens} tokens in ${seconds(stats.prefill_ms)}`,
    "answer": `${stats.decode_tokens_per_second} tokens a second`,
    "memory of the wasm module, at its peak": `${(memory / 1e6).toFixed(0)} MB`,
  };
}
