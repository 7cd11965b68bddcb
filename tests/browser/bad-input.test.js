/** What cannot be used ends in a sentence that says what to do, and the page goes on working. */

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { openBrowser, partFile } from "./harness.js";
import { oddPictures, wav } from "./media.js";

const SLOW = { timeout: 180_000 };
const TEXT = Buffer.from("This is no picture and no sound.\n");

let browser;
let folder;

before(async () => {
  browser = await openBrowser();
  folder = await mkdtemp(join(tmpdir(), "bubo-media-"));
});
after(async () => {
  await browser?.close();
  await rm(folder, { recursive: true, force: true });
});

async function openPage(address = "") {
  const tab = await browser.open(address);
  tab.page.setDefaultTimeout(SLOW.timeout);
  return tab;
}

/** Waits for the page's error message, gives it and closes it. */
async function sentence(page) {
  await page.waitForSelector("#alert:not([hidden])");
  const words = await page.textContent("#alert-words");
  await page.click("#alert-close");
  return words;
}

async function choose(page, kind, name, mimeType, buffer) {
  const path = join(folder, name);
  await writeFile(path, buffer);
  await page.setInputFiles(`#${kind}-file`, path);
}

test("files that are no picture or sound, and sounds of no or endless length", SLOW, async (context) => {
  const tab = await openPage();
  const { page } = tab;
  const cases = [
    ["picture", "notes.txt", TEXT, /notes\.txt.*not a picture.*JPEG/],
    ["picture", "broken.png", oddPictures.grey().subarray(0, 60), /broken\.png.*(not a picture|could not be decoded)/],
    ["picture", "empty.png", Buffer.alloc(0), /empty.*0 bytes.*choose another/],
    ["sound", "notes.txt", TEXT, /notes\.txt.*not a sound.*WAV/],
    ["sound", "empty.wav", Buffer.alloc(0), /empty.*0 bytes/],
    ["sound", "silent.wav", wav(0), /no time at all|not a sound/],
    ["sound", "long.wav", wav(3 * 3600, 3000), /180 minutes; the limit is 10.*Cut out/],
  ];
  for (const [kind, name, bytes, expected] of cases) {
    await context.test(`${kind} ${name}`, async () => {
      await choose(page, kind, name, "", bytes);
      assert.match(await sentence(page), expected);
    });
  }
  await page.setInputFiles("#picture-file", partFile("photographs", "chelsea.png"));
  await page.waitForSelector("#picture-view:not([hidden])");
  assert.deepEqual(tab.errors, []);
  await tab.close();
});

test("pictures of odd kinds are taken", SLOW, async (context) => {
  const tab = await openPage();
  const { page } = tab;
  for (const [kind, make] of Object.entries(oddPictures)) {
    await context.test(kind, async () => {
      await choose(page, "picture", `${kind.replaceAll(" ", "-")}.png`, "", make());
      await page.waitForFunction(
        () => /^(Found|Nothing found)/.test(document.querySelector("#picture-status").textContent)
          || !document.querySelector("#alert").hidden,
        null,
        SLOW,
      );
      assert.equal(await page.isHidden("#alert"), true, await page.textContent("#alert-words"));
      const [width, height] = await page.evaluate(() => [document.querySelector("#canvas").width, document.querySelector("#canvas").height]);
      assert.ok(width > 0 && height > 0 && width <= 2560, `${width} × ${height}`);
      await page.evaluate(() => { document.querySelector("#picture-status").textContent = ""; });
    });
  }
  assert.deepEqual(tab.errors, []);
  await tab.close();
});

test("an empty question and an endless one", SLOW, async () => {
  const tab = await openPage();
  const { page } = tab;
  await page.fill("#question", "   ");
  await page.click("#send");
  assert.match(await sentence(page), /Write a question first/);
  await page.fill("#question", "why ".repeat(2500));
  await page.click("#send");
  assert.match(await sentence(page), /10,000 characters.*Shorten/);
  assert.equal(await page.locator(".turn").count(), 0);
  await tab.close();
});

const wrongBundles = [
  ["an address that answers 404", "nowhere/bundle.json", /answered 404; check/],
  ["an address that answers HTML", "index.html", /not a bundle\.json; check the address/],
];
for (const [name, address, expected] of wrongBundles) {
  test(`${name} instead of a bundle`, SLOW, async () => {
    const tab = await openPage(`?bundle=${address}`);
    assert.match(await sentence(tab.page), expected);
    assert.equal(await tab.page.isVisible("#load"), true);
    await tab.page.setInputFiles("#picture-file", partFile("farm", "cow.webp"));
    assert.match(await sentence(tab.page), expected);
    assert.equal(await tab.page.isVisible("#canvas"), true);
    await tab.close();
  });
}

test("a manifest of an unknown format", SLOW, async () => {
  const tab = await openPage("pkg/package.json");
  await tab.page.route("**/bundle.json", (route) => route.fulfill({ json: { format: 99, parts: {}, shards: [] } }));
  await tab.page.goto("");
  assert.match(await sentence(tab.page), /format is 99.*knows 1/);
  await tab.close();
});

test("a shard with one flipped bit is named, and a good one mends it", SLOW, async () => {
  const tab = await openPage("pkg/package.json");
  const { page } = tab;
  await page.evaluate(async () => {
    const root = await navigator.storage.getDirectory();
    await root.removeEntry("bubo", { recursive: true }).catch(() => {});
  });
  let flipped = 0;
  const flip = async (route) => {
    const response = await route.fetch();
    const body = await response.body();
    body[body.length - 100] ^= 1;
    flipped += 1;
    await route.fulfill({ response, body });
  };
  const manifest = await (await page.request.get("bundles/bubo-mini/bundle.json")).json();
  const shard = manifest.shards[0].file;
  await page.context().route(`**/${shard}`, flip);
  await page.goto("");
  await page.click("#load");
  const words = await sentence(page);
  assert.ok(words.includes(shard), words);
  assert.match(words, /Try again/);
  assert.ok(flipped >= 2, "a damaged shard is fetched once more");
  await page.context().unroute(`**/${shard}`, flip);
  await page.click("#load");
  await page.waitForFunction(() => /is ready/.test(document.querySelector("#model-facts").textContent), null, SLOW);
  await tab.close();
});
