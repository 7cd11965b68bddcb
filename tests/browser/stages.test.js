/** Every network of the paper's system alone, tiny and random: WebGPU gives what the processor gives. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { useTab } from "./harness.js";

const STAGES = ["tagger", "detector", "segmenter", "image_encoder", "image_qformer", "audio_encoder", "audio_qformer", "language"];

const used = useTab("pkg/package.json");

/** Runs stages of the bundle that `cargo xtask test browser` writes; an error comes back as its code and message. */
function stagesOn(device, options = {}) {
  return used.tab.page.evaluate(async ([wanted, given]) => {
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

/** What every stage gave on both engines; run once for all tests. */
let both;
async function onBoth() {
  both ??= (async () => ({ expected: await stagesOn("wasm"), found: await stagesOn("webgpu") }))();
  return both;
}

/** How far a stage's numbers are apart: the middle and the largest difference, as shares of the root mean square. */
function differences({ outputs }, { outputs: others }) {
  return outputs.map(({ name, sample }, at) => {
    const { sample: numbers, rms } = others[at];
    const off = sample.map((number, place) => Math.abs(number - numbers[place]) / rms).sort((a, b) => a - b);
    return { name, median: off[off.length >> 1], most: off.at(-1) };
  });
}

async function checkAgreement(context, stages) {
  const { expected, found } = await onBoth();
  for (const stage of stages) {
    const of = ({ reports }) => reports.find((report) => report.stage === stage);
    for (const { name, median, most } of differences(of(found), of(expected))) {
      context.diagnostic(`${stage} ${name}: off by ${median.toExponential(1)}, at most ${most.toExponential(1)}`);
      // Of the detector's queries those that are equally promising may change places.
      assert.ok(stage === "detector" ? median < 0.002 : most < 0.01, `${stage} ${name}: ${median}, ${most}`);
    }
  }
}

test("every stage runs alone, on WebGPU and on the processor", { timeout: 300_000 }, async () => {
  const { expected, found } = await onBoth();
  assert.deepEqual(expected.told, STAGES, JSON.stringify(expected));
  assert.deepEqual(found.told, STAGES, JSON.stringify(found));
  assert.equal(expected.gpu, null);
  assert.ok(found.gpu.bytesInUse > 0 && found.gpu.dispatches > 0);
  found.reports.forEach(({ stage, outputs, spoken, gpu, seconds }, index) => {
    const other = expected.reports[index];
    assert.ok(gpu.dispatches > 0 && seconds > 0 && other.gpu === null, stage);
    assert.deepEqual(spoken?.promptTokens, other.spoken?.promptTokens);
    assert.deepEqual(outputs.map(({ name, dims, finite }) => [name, dims, finite]), other.outputs.map(({ name, dims }) => [name, dims, true]));
  });
  assert.deepEqual(used.tab.errors, []);
});

test("pictures give on WebGPU what they give on the processor", { timeout: 300_000 }, (context) =>
  checkAgreement(context, ["tagger", "detector", "segmenter", "image_encoder", "image_qformer"]));

test("sounds and words do, too", { timeout: 300_000 }, (context) =>
  checkAgreement(context, ["audio_encoder", "audio_qformer", "language"]));

// Natively the kernels go through another compiler of WGSL, so that the browser's own faults are seen only here.
test("every kernel gives on WebGPU what it gives on the processor", { timeout: 300_000 }, async () => {
  const failures = await used.tab.page.evaluate(async () => {
    const { Bubo } = await import("/pkg/index.js");
    const { gpuSelfTest } = await import("/pkg/stages.js");
    const bubo = await Bubo.load("/bundles/bubogpt-tiny-random/bundle.json", { device: "webgpu" });
    try {
      return await gpuSelfTest(bubo);
    } finally {
      bubo.close();
    }
  });
  assert.deepEqual(failures, []);
});

test("what cannot run says why", async () => {
  const unknown = await stagesOn("wasm", { stages: ["nose"] });
  assert.deepEqual([unknown.code, /known are tagger/.test(unknown.message)], ["input", true], unknown.message);
  const alone = await stagesOn("wasm", { stages: ["image_qformer"] });
  assert.match(alone.message, /what its encoder makes/);
  const wrong = await stagesOn("wasm", { stage: "tagger" });
  assert.match(wrong.message, /unknown option "stage"/);
});
