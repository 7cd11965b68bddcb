/** The ways in beside the choosers: dropping, pasting, recording. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openBrowser } from "./harness.js";

/** A cold model on one busy core. */
const SLOW = { timeout: 180_000 };

let browser;
let tab;
let page;

before(async () => {
  // A microphone that beeps, allowed without asking.
  browser = await openBrowser(["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]);
  tab = await browser.open("");
  page = tab.page;
  page.setDefaultTimeout(SLOW.timeout);
});
after(() => browser?.close());

/** Gives the page a file of the site, as a drop or a paste somewhere on it does. */
function bring(event, selector, address, type) {
  return page.evaluate(async (given) => {
    const data = new DataTransfer();
    const bytes = await (await fetch(given.address)).arrayBuffer();
    data.items.add(new File([bytes], given.address.split("/").at(-1), { type: given.type }));
    const init = { bubbles: true, cancelable: true };
    const event = given.event === "paste"
      ? new ClipboardEvent("paste", { ...init, clipboardData: data })
      : new DragEvent(given.event, { ...init, dataTransfer: data });
    document.querySelector(given.selector).dispatchEvent(event);
  }, { event, selector, address, type });
}

const found = (words) => page.waitForFunction(
  (wanted) => /^Found/.test(document.querySelector("#picture-status").textContent)
    && document.querySelector("#things").textContent.includes(wanted),
  words,
  SLOW,
);

test("a picture that is dropped on its place is looked at", SLOW, async () => {
  await bring("dragover", "#picture", "/samples/cow.webp", "image/webp");
  assert.equal(await page.locator("#picture.over").count(), 1, "the place shows that it takes the picture");
  await bring("drop", "#picture", "/samples/cow.webp", "image/webp");
  assert.equal(await page.locator(".over").count(), 0);
  await found("cow");
});

test("a picture that is pasted takes its place", SLOW, async () => {
  await bring("paste", "#question", "/samples/dog.webp", "image/webp");
  await found("dog");
});

test("a sound that is dropped anywhere is listened to", SLOW, async () => {
  await bring("drop", "body", "/samples/train.ogg", "audio/ogg");
  await page.waitForSelector("#heard li", SLOW);
  assert.match(await page.textContent("#heard"), /train/i);
});

test("what is neither is refused in words, and nothing is lost", SLOW, async () => {
  await bring("drop", "body", "/samples/samples.json", "application/json");
  await page.waitForSelector("#alert:not([hidden])");
  assert.match(await page.textContent("#alert"), /samples\.json/);
  assert.match(await page.textContent("#things"), /dog/);
  assert.match(await page.textContent("#heard"), /train/i);
});

test("a recording becomes the sound", SLOW, async () => {
  await page.click("#sound-remove");
  await page.click("#record");
  await page.waitForSelector("#record.recording");
  await page.waitForTimeout(2500);
  await page.click("#record");
  await page.waitForSelector("#sound-view:not([hidden])", SLOW);
  await page.waitForFunction(() => /^(What it hears|Nothing)/.test(document.querySelector("#sound-status").textContent), null, SLOW);
  assert.doesNotMatch(await page.textContent("#heard"), /train/i);
  const length_s = await page.evaluate(() => Number(document.querySelector("#seek").max));
  assert.ok(length_s > 1 && length_s < 10, `${length_s} s were recorded`);
  assert.deepEqual(tab.errors, []);
  await tab.screenshot("recorded");
});
