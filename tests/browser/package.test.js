/** The package as a page of someone else would use it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { partFile, useTab } from "./harness.js";
import { readFile } from "node:fs/promises";

const SLOW = { timeout: 180_000 };
const BUNDLE = "/bundles/bubo-mini/bundle.json";

const used = useTab("pkg/package.json");

/** Runs a function in the page with the package; an error comes back as its code and message. */
function inPage(run, argument) {
  return used.tab.page.evaluate(async ([source, given]) => {
    const bubo = await import("/pkg/index.js");
    try {
      return await eval(`(${source})`)(bubo, given);
    } catch (error) {
      return { thrown: error.name, code: error.code, message: error.message };
    }
  }, [run.toString(), argument]);
}

test("importing does nothing", async () => {
  const workers = used.tab.page.workers().length;
  const names = await inPage((bubo) => Object.keys(bubo).sort());
  assert.deepEqual(names, ["Answer", "Bubo", "BuboError", "Chat", "Mask", "draw", "hitTest", "readAudio", "readImage", "segments", "textOn"]);
  assert.equal(used.tab.page.workers().length, workers);
});

test("unknown options and wrong values are refused by name", async () => {
  const cases = [
    [({ Bubo }) => Bubo.load("/x", { devise: "auto" }), /Bubo\.open: unknown option "devise"; known are device/],
    [({ Bubo }) => Bubo.load("/x", { device: "quantum" }), /device must be one of auto, webgpu, wasm, not "quantum"/],
    [({ Bubo }) => Bubo.load("/x", { signal: 1 }), /signal must be an AbortSignal/],
    [({ Bubo }) => new Bubo(), /use Bubo\.load/],
    [({ readImage }) => readImage(42), /a picture must be a Blob/],
    [({ readAudio }) => readAudio({ samples: [0, 1], sampleRate: 0 }), /sampleRate must be/],
    [({ readAudio }) => readAudio({ samples: [], sampleRate: 16000 }), /lasts no time/],
  ];
  for (const [run, expected] of cases) {
    const error = await inPage(run);
    assert.equal(error.thrown, "BuboError", JSON.stringify(error));
    assert.equal(error.code, "input");
    assert.match(error.message, expected);
  }
});

test("addresses that give nothing have the code fetch", async () => {
  for (const run of [({ Bubo }) => Bubo.describe("/nowhere.json"), ({ Bubo }) => Bubo.load("/nowhere.json")]) {
    const error = await inPage(run);
    assert.deepEqual([error.thrown, error.code], ["BuboError", "fetch"], JSON.stringify(error));
    assert.match(error.message, /404/);
  }
});

test("masks are COCO's run lengths, read down the columns", async () => {
  // 4 columns of 3: columns 1 and 2 have their lower two pixels inside: runs 4 2 1 2 3, of which COCO writes 4 2 1, 2−2, 3−1.
  const mask = await inPage(({ Mask }) => {
    const made = new Mask({ size: [3, 4], counts: "42102" });
    return { pixels: [...made.toPixels(1)], area: made.area, probes: [made.contains(1, 1), made.contains(1, 0), made.contains(2.9, 2), made.contains(3, 2), made.contains(-1, 0)] };
  });
  assert.deepEqual(mask.pixels, [0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 0]);
  assert.equal(mask.area, 4);
  assert.deepEqual(mask.probes, [true, false, true, false, false]);
});

test("long runs and shrinking ones are read too", async () => {
  // Runs 1000 50 2000 25: the third is written as it is, the fourth as 25 − 50 = −25.
  const encoded = [1000, 50, 2000, 25 - 50].map((value) => {
    let text = "";
    for (let more = true; more;) {
      let bits = value & 31;
      value >>= 5;
      more = bits & 16 ? value !== -1 : value !== 0;
      if (more) bits |= 32;
      text += String.fromCharCode(bits + 48);
    }
    return text;
  }).join("");
  assert.equal(await inPage(({ Mask }, counts) => new Mask({ size: [100, 100], counts }).area, encoded), 75);
});

test("segments count Unicode characters, not UTF-16 places", async () => {
  const parts = await inPage(({ segments }) => segments("🐕 a dog, 🦉 an owl", [
    { phrase: "owl", start: 14, end: 17, things: [1] }, { phrase: "dog", start: 4, end: 7, things: [0] },
  ]).map(({ text, entity }) => [text, entity?.things[0] ?? null]));
  assert.deepEqual(parts, [["🐕 a ", null], ["dog", 0], [", 🦉 an ", null], ["owl", 1]]);
});

test("load, show, ask: events come in order; abort and close end what is under way", SLOW, async () => {
  const bytes = (await readFile(partFile("farm", "cow.webp"))).toString("base64");
  const seen = await inPage(async ({ Bubo, Answer }, picture) => {
    const progress = [];
    const bubo = await Bubo.load("/bundles/bubo-mini/bundle.json", { device: "wasm", onProgress: (at) => progress.push(at) });
    const chat = bubo.chat({ maxTokens: 40, temperature: 0 });
    const scenes = [];
    const blob = await (await fetch(`data:image/webp;base64,${picture}`)).blob();
    const scene = await chat.addImage(blob, { onScene: ({ things }) => scenes.push(things.map(({ mask }) => Boolean(mask))) });
    const events = [];
    for await (const event of chat.ask("What is in the picture?")) events.push(event);
    const abort = new AbortController();
    const stopped = await (async () => {
      for await (const event of chat.ask("Tell a long story.", { signal: abort.signal })) if (event.type === "token") abort.abort();
    })().catch((error) => error.code);
    const again = [];
    for await (const event of chat.ask("What is in the picture?")) again.push(event.type);
    const waiting = chat.addImage(blob).catch((error) => error.code);
    bubo.close();
    const { answer } = events.at(-1);
    return {
      device: bubo.device,
      loaded: progress.at(-1).loaded,
      total: progress.at(-1).total,
      monotonic: progress.every(({ loaded }, at) => at === 0 || loaded >= progress[at - 1].loaded),
      things: scene.things.map(({ tag, box, mask }) => ({ tag, box, masked: mask.area > 0 })),
      boxesFirst: scenes.some((masks) => masks.length > 0 && masks.every((mask) => !mask)),
      types: events.map(({ type }) => type),
      streamed: events.filter(({ type }) => type === "token").map(({ text }) => text).join(""),
      answer: answer.toJSON(),
      isAnswer: answer instanceof Answer,
      stopped,
      again,
      closed: await waiting,
      size: [scene.width, scene.height],
    };
  }, bytes);
  assert.equal(seen.device, "wasm", JSON.stringify(seen));
  assert.equal(seen.loaded, seen.total);
  assert.ok(seen.monotonic);
  assert.ok(seen.things.some(({ tag }) => tag === "cow"), JSON.stringify(seen.things));
  assert.ok(seen.boxesFirst, "boxes are told before their masks");
  for (const { box: [x0, y0, x1, y1] } of seen.things) {
    assert.ok(x0 >= 0 && y0 >= 0 && x0 < x1 && y0 < y1 && x1 <= seen.size[0] && y1 <= seen.size[1]);
  }
  assert.ok(seen.types.filter((type) => type === "token").length >= 2);
  assert.equal(seen.types.at(-1), "done");
  assert.ok(seen.types.indexOf("entity") > seen.types.indexOf("token"));
  assert.equal(seen.streamed.trim(), seen.answer.answer.trim());
  assert.ok(seen.isAnswer);
  assert.match(seen.answer.answer, /cow|cattle|bull/i);
  assert.equal(seen.stopped, "cancelled");
  assert.equal(seen.again.at(-1), "done");
  assert.equal(seen.closed, "closed");
  assert.deepEqual(used.tab.errors, []);
});

test("another load downloads nothing", SLOW, async () => {
  const fetched = [];
  used.tab.page.context().on("request", (request) => { if (request.url().includes(".safetensors")) fetched.push(request.url()); });
  const cached = await inPage(async ({ Bubo }, url) => {
    const before = await Bubo.describe(url);
    const bubo = await Bubo.load(url, { device: "wasm" });
    bubo.close();
    return [before.cachedBytes, before.bytes];
  }, BUNDLE);
  assert.equal(cached[0], cached[1]);
  assert.deepEqual(fetched, []);
});
