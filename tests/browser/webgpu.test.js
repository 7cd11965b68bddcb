/** The GPU engine in the browser, on whatever adapter there is: what it sees must be what the processor sees. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { partFile, useTab } from "./harness.js";

const used = useTab("pkg/package.json");

/** Tags and boxes as soon as they are told. Outlines and answers take minutes where a processor plays the GPU. */
function boxesOn(device, picture) {
  return used.tab.page.evaluate(async ([wanted, bytes]) => {
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
  assert.deepEqual(used.tab.errors, []);
});

/** Device and reason of a bundle opened as pages do, or the error's code. */
function openedOn(tab, device) {
  return tab.page.evaluate(async (wanted) => {
    const { Bubo } = await import("/pkg/index.js");
    try {
      const bubo = await Bubo.open("/bundles/bubo-mini/bundle.json", { device: wanted });
      const { device, deviceReason } = bubo;
      bubo.close();
      return { device, deviceReason };
    } catch ({ code, message }) {
      return { code, message };
    }
  }, device);
}

/** Changes what the page gets from an address; the change must find something to change. */
function changed(tab, address, change) {
  return tab.page.route(address, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: change(await response.body()) });
  });
}

test("a card that computes wrongly gives way to the processor", { timeout: 300_000 }, async () => {
  const tab = await used.browser.open("pkg/package.json");
  // Here a processor plays the card; the worker shall take it for one.
  await changed(tab, "**/pkg/worker.js", (body) => {
    const real = body.toString().replace('if (isFallbackAdapter || architecture === "swiftshader")', "if (false)");
    assert.ok(real.includes("if (false)"));
    return real;
  });
  assert.deepEqual(await openedOn(tab, "auto"), { device: "webgpu", deviceReason: "real-gpu" });
  // The mean of a norm times its size instead of by it: such a card is simulated by a change of the kernel.
  await changed(tab, "**/pkg/dist/bubo_bg.wasm", (body) => {
    const mean = "let mean = workgroup_sum(lane, sum) / f32(params.size);";
    const at = body.indexOf(mean);
    assert.ok(at > 0);
    body.write(mean.replace("/", "*"), at);
    return body;
  });
  assert.deepEqual(await openedOn(tab, "auto"), { device: "wasm", deviceReason: "faulty-gpu" });
  const asked = await openedOn(tab, "webgpu");
  assert.equal(asked.code, "no-webgpu");
  assert.match(asked.message, /computes (layer|group)_norm wrongly.*use the device "wasm"/);
  assert.deepEqual(tab.errors, []);
});
