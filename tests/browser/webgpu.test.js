/** The GPU engine in the browser, on whatever adapter there is: what it sees must be what the processor sees. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { openBrowser, partFile } from "./harness.js";

let browser;
let tab;
before(async () => {
  browser = await openBrowser();
  tab = await browser.open("pkg/package.json");
});
after(() => browser?.close());

/** Tags and boxes as soon as they are told. Outlines and answers take minutes where a processor plays the GPU. */
function boxesOn(device, picture) {
  return tab.page.evaluate(async ([wanted, bytes]) => {
    const { Bubo } = await import("/pkg/index.js");
    const bubo = await Bubo.open("/bundles/bubo-mini/bundle.json", { device: wanted });
    const blob = await (await fetch(`data:image/webp;base64,${bytes}`)).blob();
    const enough = new AbortController();
    let found = [];
    const stopped = await bubo.chat().addImage(blob, {
      signal: enough.signal,
      onScene: ({ things }) => {
        if (things.length === 0) return;
        found = things.map(({ tag, score, box }) => ({ tag, score, box }));
        enough.abort();
      },
    }).then(() => "finished", (error) => error.code);
    const { device } = bubo;
    bubo.close();
    return { device, found, stopped };
  }, [device, picture]);
}

test("tagger and detector see on WebGPU what they see on the processor", { timeout: 300_000 }, async () => {
  const picture = (await readFile(partFile("farm", "dog.webp"))).toString("base64");
  const expected = await boxesOn("wasm", picture);
  const seen = await boxesOn("webgpu", picture);
  assert.equal(expected.device, "wasm");
  assert.equal(seen.device, "webgpu");
  assert.equal(seen.stopped, "cancelled");
  assert.ok(expected.found.length > 0);
  assert.deepEqual(seen.found.map(({ tag }) => tag), expected.found.map(({ tag }) => tag));
  seen.found.forEach(({ score, box }, index) => {
    const other = expected.found[index];
    assert.ok(Math.abs(score - other.score) < 0.01, `${score} and ${other.score}`);
    box.forEach((side, at) => assert.ok(Math.abs(side - other.box[at]) < 2, `${box} and ${other.box}`));
  });
  assert.deepEqual(tab.errors, []);
});
