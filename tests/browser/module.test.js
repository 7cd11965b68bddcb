/** The wasm module as built, in the browser as the tests use it. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { openBrowser } from "./harness.js";

let browser;
before(async () => {
  browser = await openBrowser();
});
after(() => browser?.close());

test("the wasm module loads and says its version", async () => {
  const manifest = await readFile(new URL("../../Cargo.toml", import.meta.url), "utf8");
  const expected = /^version = "(.+)"$/m.exec(manifest)[1];
  const tab = await browser.open("pkg/package.json");
  const version = await tab.page.evaluate(async () => {
    const module = await import("/pkg/dist/bubo.js");
    await module.default();
    return module.version();
  });
  assert.equal(version, expected);
  assert.deepEqual(tab.errors, []);
  await tab.close();
});

test("the site is cross-origin isolated and the browser offers WebGPU", async () => {
  const tab = await browser.open("pkg/package.json");
  const offered = await tab.page.evaluate(async () => {
    const adapter = await navigator.gpu?.requestAdapter();
    return { isolated: crossOriginIsolated, storage: "getDirectory" in navigator.storage, adapter: adapter != null };
  });
  assert.deepEqual(offered, { isolated: true, storage: true, adapter: true });
  await tab.close();
});

test("messages from the page arrive, also those sent before the wait", async () => {
  const tab = await browser.open("pkg/package.json");
  await tab.page.evaluate(async () => {
    await report({ type: "first" });
    setTimeout(() => report({ type: "second", value: 2 }), 50);
  });
  assert.deepEqual(await tab.message((message) => message.type === "second"), { type: "second", value: 2 });
  assert.deepEqual(await tab.message((message) => message.type === "first"), { type: "first" });
  await assert.rejects(
    tab.message((message) => message.type === "third", 50),
    /no such message within 50 ms/,
  );
  await tab.close();
});
