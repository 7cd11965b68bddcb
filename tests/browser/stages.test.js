/** Every network of the paper's system alone, tiny and random: WebGPU gives what the processor gives. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openBrowser } from "./harness.js";

const STAGES = ["tagger", "detector", "segmenter", "image_encoder", "image_qformer", "audio_encoder", "audio_qformer", "language"];

let browser;
let tab;
before(async () => {
  browser = await openBrowser();
  tab = await browser.open("pkg/package.json");
});
after(() => browser?.close());

/** Runs stages of the bundle that `cargo xtask test browser` writes; an error comes back as its code and message. */
function stagesOn(device, options = {}) {
  return tab.page.evaluate(async ([wanted, given]) => {
    const { Bubo } = await import("/pkg/index.js");
    const { runStages, gpuCounters } = await import("/pkg/stages.js");
    const bubo = await Bubo.load("/bundles/bubogpt-tiny-random/bundle.json", { device: wanted });
    try {
      // A strip, since the detector brings the shorter side up to 800 pixels where the longer one allows it.
      const image = new ImageData(400, 24);
      image.data.forEach((_, at) => { image.data[at] = at % 4 === 3 ? 255 : (at * 7) % 251; });
      const audio = { samples: Float32Array.from({ length: 96000 }, (_, at) => Math.sin(at * 0.2) * 0.3), sampleRate: 16000 };
      const told = [];
      const reports = await runStages(bubo, { image, audio, onReport: ({ stage }) => told.push(stage), ...given });
      return { reports, told, gpu: await gpuCounters(bubo) };
    } catch (error) {
      return { code: error.code, message: error.message };
    } finally {
      bubo.close();
    }
  }, [device, options]);
}

test("every stage gives on WebGPU what it gives on the processor", { timeout: 300_000 }, async (context) => {
  const expected = await stagesOn("wasm");
  const found = await stagesOn("webgpu");
  assert.deepEqual(expected.told, STAGES, JSON.stringify(expected));
  assert.deepEqual(found.told, STAGES, JSON.stringify(found));
  assert.equal(expected.gpu, null);
  assert.ok(found.gpu.bytesInUse > 0 && found.gpu.dispatches > 0);
  found.reports.forEach(({ stage, outputs, spoken, gpu, seconds }, index) => {
    const other = expected.reports[index];
    assert.ok(gpu.dispatches > 0 && seconds > 0 && other.gpu === null, stage);
    assert.deepEqual(spoken?.promptTokens, other.spoken?.promptTokens);
    assert.deepEqual(outputs.map(({ name, dims, finite }) => [name, dims, finite]), other.outputs.map(({ name, dims }) => [name, dims, true]));
    outputs.forEach(({ name, sample }, at) => {
      const { sample: numbers, rms } = other.outputs[at];
      const close = sample.filter((number, place) => Math.abs(number - numbers[place]) < 0.05 * rms).length / numbers.length;
      context.diagnostic(`${stage} ${name}: ${(close * 100).toFixed(0)} % of the numbers agree`);
      // Of the detector's queries those that are equally promising may change places.
      assert.ok(close >= (stage === "detector" ? 0.6 : 1), `${stage} ${name}: ${sample} and ${numbers}`);
    });
  });
  assert.deepEqual(tab.errors, []);
});

test("what cannot run says why", async () => {
  const unknown = await stagesOn("wasm", { stages: ["nose"] });
  assert.deepEqual([unknown.code, /known are tagger/.test(unknown.message)], ["input", true], unknown.message);
  const alone = await stagesOn("wasm", { stages: ["image_qformer"] });
  assert.match(alone.message, /what its encoder makes/);
  const wrong = await stagesOn("wasm", { stage: "tagger" });
  assert.match(wrong.message, /unknown option "stage"/);
});
