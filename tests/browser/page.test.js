/** The page as served, used as a person uses it: a photograph, a sound, a question. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { openBrowser, partFile } from "./harness.js";

/** A cold model on one busy core. */
const SLOW = { timeout: 180_000 };

let browser;
let tab;
let page;
const requests = [];

before(async () => {
  browser = await openBrowser();
  tab = await browser.open("about:blank");
  page = tab.page;
  page.context().on("request", (request) => requests.push(new URL(request.url()).pathname));
  page.setDefaultTimeout(SLOW.timeout);
  await page.goto("");
});
after(() => browser?.close());

const shards = () => requests.filter((path) => path.endsWith(".safetensors"));

async function ask(question) {
  await page.fill("#question", question);
  await page.press("#question", "Enter");
}

/** Waits for the end of the answer under way, and gives its text. */
async function answer() {
  await page.waitForSelector(".turn:last-child .answer[aria-busy=false]", SLOW);
  await page.waitForSelector("#send:not([hidden])", SLOW);
  return page.textContent(".turn:last-child .answer");
}

test("the first screen says size and licence before any of the model is fetched", SLOW, async () => {
  await page.waitForSelector("#load:not([hidden])");
  const facts = await page.textContent("#model-facts");
  assert.match(facts, /bubo-mini: \d+ MB/);
  assert.match(facts, /Apache-2\.0/);
  assert.match(await page.textContent("#about"), /cannot read writing/);
  await page.waitForSelector("#picture-samples button");
  assert.ok(await page.locator("#sound-samples button").count() >= 3);
  assert.deepEqual(shards(), []);
  await tab.screenshot("first-screen");
});

test("a chosen photograph shows outlines while the language model still loads", SLOW, async () => {
  await page.setInputFiles("#picture-file", partFile("farm", "dog.webp"));
  await page.waitForSelector("#things button", SLOW);
  assert.match(await page.textContent("#things"), /dog/);
  await page.waitForFunction(() => /^Found/.test(document.querySelector("#picture-status").textContent), null, SLOW);
  assert.match(await page.getAttribute("#canvas", "aria-label"), /dog/);
  assert.ok(shards().length > 0);
  await tab.screenshot("picture");
});

test("a chosen sound is drawn, and what is heard stands along it", SLOW, async () => {
  await page.setInputFiles("#sound-file", partFile("farm", "dog.ogg"));
  await page.waitForSelector("#heard li", SLOW);
  assert.match(await page.textContent("#heard"), /dog|bark/i);
  const colors = await page.evaluate(() => ["waveform", "spectrogram"].map((id) => {
    const canvas = document.getElementById(id);
    const pixels = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer);
    return new Set(pixels).size;
  }));
  assert.ok(colors[0] >= 2 && colors[1] > 50, `too few colours: ${colors}`);
  await page.click("#play");
  await page.waitForFunction(() => Number(document.querySelector("#seek").value) > 0);
});

test("the answer streams, and its phrases take the colours of what they mean", SLOW, async () => {
  await page.waitForFunction(() => document.querySelector("#stop-loading").hidden, null, SLOW);
  await page.evaluate(() => {
    window.growth = [];
    new MutationObserver(() => {
      const streaming = document.querySelector(".turn:last-child .answer[aria-busy=true]");
      if (streaming) window.growth.push(streaming.textContent.length);
    }).observe(document.querySelector("#turns"), { childList: true, subtree: true, characterData: true });
  });
  await ask("What is in the picture?");
  const text = await answer();
  assert.match(text, /dog|shepherd/i);
  const growth = new Set((await page.evaluate(() => window.growth)).filter((length) => length > 0));
  assert.ok(growth.size >= 2, `the answer came in ${growth.size} pieces`);
  const phrase = page.locator(".phrase").first();
  assert.match(await phrase.textContent(), /dog|shepherd/i);
  const colors = await phrase.evaluate((element) => {
    const [thing] = JSON.parse(element.dataset.things);
    const chip = document.querySelector(`#things [data-thing="${thing}"]`);
    return [getComputedStyle(element).borderBottomColor, getComputedStyle(chip, "::before").backgroundColor];
  });
  assert.equal(colors[0], colors[1]);
  await tab.screenshot("answer");
});

test("inside a mask the canvas is half picture, half the mask's colour; pointing dims the rest", SLOW, async () => {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#save-json")]);
  const json = JSON.parse(await readFile(await download.path(), "utf8"));
  assert.deepEqual(Object.keys(json).slice(0, 5), ["answer", "entities", "things", "sounds", "stats"]);
  for (const { phrase, start, end } of json.entities) assert.equal(Array.from(json.answer).slice(start, end).join(""), phrase);
  const photo = `data:image/webp;base64,${(await readFile(partFile("farm", "dog.webp"))).toString("base64")}`;
  const things = json.entities[0].things;
  const measure = () => page.evaluate(blendErrors, { json, photo, shown: json.entities.flatMap((entity) => entity.things), lit: things });
  await page.mouse.move(0, 0);
  await page.waitForTimeout(300);
  const plain = await measure();
  assert.ok(plain.inside.count > 500, JSON.stringify(plain));
  assert.ok(plain.inside.error < 6, `inside, off by ${plain.inside.error} of 255`);
  assert.ok(plain.outside.error < 6, `outside, off by ${plain.outside.error} of 255`);
  await page.hover(".phrase");
  await page.waitForTimeout(300);
  const lit = await measure();
  assert.ok(lit.inside.error < 6, `inside, lit, off by ${lit.inside.error} of 255`);
  assert.ok(lit.outside.brightness < 0.5 * plain.outside.brightness, JSON.stringify({ plain, lit }));
  await tab.screenshot("phrase-pointed-at");
  await page.mouse.move(0, 0);
});

/** In the page: how far the canvas is from the picture outside of masks, and from the blend inside, in the mean. */
async function blendErrors({ json, photo, shown, lit }) {
  const { Mask } = await import("/pkg/index.js");
  const canvas = document.querySelector("#canvas");
  const { width, height } = canvas;
  const image = new Image();
  image.src = photo;
  await image.decode();
  const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(await createImageBitmap(image), 0, 0, width, height);
  const expected = copy.getImageData(0, 0, width, height).data;
  const found = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  const masks = json.things.map((thing) => thing.mask && new Mask(thing.mask));
  const color = document.querySelector(`#things [data-thing="${lit[0]}"]`).style.getPropertyValue("--light").match(/\w\w/g).map((hex) => Number.parseInt(hex, 16));
  const sums = { inside: { error: 0, count: 0, brightness: 0 }, outside: { error: 0, count: 0, brightness: 0 } };
  // A grid of points away from edges and labels.
  for (let y = Math.round(height * 0.35); y < height; y += 4) {
    for (let x = 0; x < width; x += 4) {
      const around = [[0, 0], [9, 0], [-9, 0], [0, 9], [0, -9]].map(([dx, dy]) => (
        masks.map((mask, index) => (mask?.contains(((x + dx) * mask.width) / width, ((y + dy) * mask.height) / height) ? index : -1))
          .filter((index) => index >= 0)));
      const inLit = around.every((indices) => indices.length > 0 && lit.includes(indices.filter((index) => shown.includes(index)).at(-1)));
      const inNone = around.every((indices) => indices.length === 0);
      if (!inLit && !inNone) continue;
      const sum = inLit ? sums.inside : sums.outside;
      const at = 4 * (y * width + x);
      for (let channel = 0; channel < 3; channel += 1) {
        const wanted = inLit ? (expected[at + channel] + color[channel]) / 2 : expected[at + channel];
        sum.error += Math.abs(found[at + channel] - wanted);
        sum.brightness += found[at + channel];
      }
      sum.count += 3;
    }
  }
  for (const sum of Object.values(sums)) {
    sum.error /= sum.count;
    sum.brightness /= sum.count;
  }
  return sums;
}

test("phrases work by keyboard: focus lights, Enter pins, Escape lets go", SLOW, async () => {
  await page.focus(".phrase");
  await page.waitForSelector(".phrase.lit");
  await page.waitForSelector("#things button.lit");
  await page.keyboard.press("Enter");
  await page.waitForSelector(".phrase[aria-pressed=true]");
  await page.focus("#question");
  assert.ok(await page.locator(".phrase.lit").count() > 0, "what is pinned stays lit");
  await page.keyboard.press("Escape");
  await page.waitForFunction(() => !document.querySelector(".phrase.lit"));
});

test("pointing at a mask lights up its phrase", SLOW, async () => {
  const box = await page.locator("#canvas").boundingBox();
  await page.mouse.move(box.x + box.width * 0.55, box.y + box.height * 0.45);
  await page.waitForSelector(".phrase.lit");
  await page.mouse.move(0, 0);
});

test("a follow-up question keeps the conversation", SLOW, async () => {
  await ask("What do you hear?");
  assert.match(await answer(), /dog|bark/i);
  assert.equal(await page.locator(".turn").count(), 2);
});

test("stop ends an answer at once, and the next question is answered", SLOW, async () => {
  await ask("Tell me a long story about a dog, with many details.");
  await page.waitForFunction(() => document.querySelector(".turn:last-child .answer").textContent.length > 0, null, SLOW);
  const started = Date.now();
  await page.click("#stop");
  await page.waitForSelector("#send:not([hidden])");
  assert.ok(Date.now() - started < 2000, `it took ${Date.now() - started} ms`);
  assert.match(await page.textContent(".turn:last-child .below"), /Stopped/);
  await ask("What animal is it?");
  assert.ok((await answer()).trim().length > 0);
});

test("Spanish, phone width and dark mode", SLOW, async () => {
  await page.selectOption("#language", "es");
  assert.equal(await page.textContent("#picture-title"), "Imagen");
  assert.equal(await page.getAttribute("html", "lang"), "es");
  await page.emulateMedia({ colorScheme: "dark" });
  await tab.screenshot("dark-spanish");
  await page.setViewportSize({ width: 390, height: 844 });
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `${overflow} pixels too wide`);
  await tab.screenshot("phone-dark");
  await page.emulateMedia({ colorScheme: "light" });
  await tab.screenshot("phone");
  await page.selectOption("#language", "en");
  await page.setViewportSize({ width: 1280, height: 900 });
});

test("clear forgets everything and shows the first screen again", SLOW, async () => {
  await page.click("#clear");
  await page.waitForSelector("#picture-empty:not([hidden])");
  assert.equal(await page.locator(".turn").count(), 0);
  await ask("Say hello.");
  assert.ok((await answer()).trim().length > 0, "a question without picture and sound is answered too");
});

test("a second visit loads everything from this device", SLOW, async () => {
  requests.length = 0;
  await page.goto("");
  await page.waitForFunction(() => /is ready/.test(document.querySelector("#model-facts").textContent), null, SLOW);
  assert.deepEqual(shards(), []);
});

test("nothing failed on the way, and the content security policy was kept", () => {
  assert.deepEqual(tab.errors, []);
  assert.deepEqual(tab.log.filter((line) => /^error:|Content Security Policy/.test(line)), []);
});
