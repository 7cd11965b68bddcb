/** Teaching in the page: a name for a dog, a name for a sound, kept over a visit, saved, refused, forgotten. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { openBrowser, partFile } from "./harness.js";

const SLOW = { timeout: 240_000 };

let browser;
let tab;
let page;
let saved;

before(async () => {
  browser = await openBrowser();
  tab = await browser.open("about:blank");
  page = tab.page;
  page.setDefaultTimeout(SLOW.timeout);
  await page.goto("");
});
after(() => browser?.close());

const said = (pattern) => page.waitForFunction(
  (source) => new RegExp(source).test(document.querySelector("#teach-status").textContent), pattern.source, SLOW);
const chips = () => page.$$eval("#things button", (buttons) => buttons.map(({ firstChild, classList }) => [firstChild.textContent, classList.contains("taught-thing")]));

async function answer(question) {
  await page.fill("#question", question);
  await page.press("#question", "Enter");
  await page.waitForSelector(".turn:last-child .answer[aria-busy=false]", SLOW);
  await page.waitForSelector("#send:not([hidden])", SLOW);
  return page.textContent(".turn:last-child .answer");
}

test("a thing is named by keyboard, and carries the name at once", SLOW, async () => {
  await page.setInputFiles("#picture-file", partFile("farm", "dog.webp"));
  await page.waitForSelector("#teach-form:not([hidden])", SLOW);
  const dog = await page.$$eval("#teach-what option", (options) => options.find(({ textContent }) => /dog/.test(textContent)).value);
  await page.selectOption("#teach-what", dog);
  await page.focus("#teach-name");
  await page.keyboard.type("Rex");
  await page.keyboard.press("Enter");
  await said(/Learnt: Rex, from one example/);
  assert.ok((await chips()).some(([tag, taught]) => tag === "Rex" && taught), JSON.stringify(await chips()));
  assert.match(await page.textContent("#taught"), /Rex · dog.*one picture/);
  assert.match(await page.textContent("#taught-note"), /private storage.*on this device only/);
  await tab.screenshot("taught");
});

test("answers say the name and colour it", SLOW, async () => {
  assert.match(await answer("Is Rex in the picture?"), /^Yes, Rex is/);
  assert.equal(await page.textContent(".turn:last-child .phrase"), "Rex");
  assert.match(await answer("What is in the picture?"), /Rex/);
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#save-json")]);
  const json = JSON.parse(await readFile(await download.path(), "utf8"));
  assert.ok(json.things.some(({ tag, taught }) => tag === "Rex" && taught === true), JSON.stringify(json.things.map(({ tag }) => tag)));
  await tab.screenshot("taught-answer");
});

test("a sound is named", SLOW, async () => {
  await page.setInputFiles("#sound-file", partFile("farm", "owl.ogg"));
  await page.waitForSelector("#heard li", SLOW);
  await page.waitForSelector("#teach-what option[value=sound]", { state: "attached", ...SLOW });
  await page.selectOption("#teach-what", "sound");
  await page.fill("#teach-name", "our owl");
  await page.fill("#teach-kind", "owl");
  await page.click("#teach-send");
  await said(/Learnt: our owl/);
  assert.match(await page.textContent("#heard"), /our owl/);
  assert.match(await answer("Do you hear our owl?"), /^Yes, I hear our owl/);
});

test("a part is marked by pointer and by the arrow keys", SLOW, async () => {
  await page.selectOption("#teach-what", "part");
  await page.waitForSelector("#mark:not([hidden])");
  const frame = () => page.locator("#mark").boundingBox();
  const first = await frame();
  await page.focus("#mark");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Shift+ArrowDown");
  const second = await frame();
  assert.ok(second.x > first.x && second.height > first.height, JSON.stringify([first, second]));
  // Typing scrolls the mark into view, so the canvas is looked for again.
  await page.locator("#canvas").scrollIntoViewIfNeeded();
  const canvas = await page.locator("#canvas").boundingBox();
  const at = (x, y) => [canvas.x + x * canvas.width, canvas.y + y * canvas.height];
  await page.mouse.move(...at(0.45, 0.3));
  await page.mouse.down();
  await page.mouse.move(...at(0.6, 0.6), { steps: 4 });
  await page.mouse.up();
  const drawn = await frame();
  assert.ok(Math.abs(drawn.width - 0.15 * canvas.width) < 8, JSON.stringify([drawn, canvas]));
  await tab.screenshot("teach-part");
  await page.selectOption("#teach-what", "picture");
  assert.ok(await page.locator("#mark").isHidden());
});

test("names that cannot be used are refused in words", SLOW, async () => {
  await page.fill("#teach-name", "<b>Rex</b>");
  await page.click("#teach-send");
  await page.waitForSelector("#alert:not([hidden])");
  assert.match(await page.textContent("#alert-words"), /holds the character '<'/);
  assert.equal(await page.locator("#alert-words b").count(), 0);
  await page.click("#alert-close");
  await page.fill("#teach-name", "  ");
  await page.click("#teach-send");
  await said(/Type a name first/);
});

test("what was taught survives a new visit, and nothing left the device", SLOW, async () => {
  const sent = [];
  page.on("request", (request) => { if (request.method() !== "GET") sent.push(request.url()); });
  await page.goto("");
  await page.waitForFunction(() => /Rex/.test(document.querySelector("#taught").textContent), null, SLOW);
  assert.match(await page.textContent("#taught"), /our owl · owl/);
  await page.setInputFiles("#picture-file", partFile("farm", "dog.webp"));
  await page.waitForFunction(() => /Rex/.test(document.querySelector("#things").textContent), null, SLOW);
  await page.setInputFiles("#picture-file", partFile("farm", "cat.webp"));
  await page.waitForFunction(() => /cat/.test(document.querySelector("#things").textContent), null, SLOW);
  assert.ok(!(await chips()).some(([, taught]) => taught), JSON.stringify(await chips()));
  assert.deepEqual(sent, []);
});

test("it is saved as a file, forgotten one by one or all, and taken from the file again", SLOW, async () => {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#taught-save")]);
  saved = await readFile(await download.path());
  const document = JSON.parse(saved);
  assert.deepEqual([document.format, document.version, document.classes.length], ["bubo-taught", 1, 2]);
  await page.click("#taught li:has-text('our owl') button");
  await said(/our owl is forgotten/);
  assert.equal(await page.locator("#taught li").count(), 1);
  await page.click("#taught-forget");
  assert.equal(await page.locator("#taught li").count(), 1, "the first click only asks");
  await page.click("#taught-forget");
  await said(/Everything is forgotten/);
  assert.equal(await page.locator("#taught li").count(), 0);
  await page.setInputFiles("#taught-file", { name: "mine.json", mimeType: "application/json", buffer: saved });
  await said(/Taken from mine\.json/);
  assert.match(await page.textContent("#taught"), /Rex · dog.*our owl · owl/s);
});

test("files of other encoders and files that are none are refused, and change nothing", SLOW, async () => {
  const good = JSON.parse(saved);
  const fingerprint = "0".repeat(64);
  const cases = [
    ["{", /damaged/],
    [JSON.stringify({ ...good, version: 9 }), /another version/],
    [JSON.stringify({ ...good, encoders: { ...good.encoders, picture: { ...good.encoders.picture, fingerprint } } }), /another encoder/],
    [JSON.stringify({ ...good, classes: [{ ...good.classes[0], name: "x".repeat(10_000) }] }), /10000 characters/],
    [JSON.stringify({ ...good, classes: [{ ...good.classes[0], examples: ["AAAA"] }] }), /Rex.*examples 0/],
    [JSON.stringify({ ...good, classes: [good.classes[0], good.classes[0]] }), /twice/],
  ];
  for (const [text, reason] of cases) {
    await page.setInputFiles("#taught-file", { name: "bad.json", mimeType: "application/json", buffer: Buffer.from(text) });
    await page.waitForSelector("#alert:not([hidden])");
    assert.match(await page.textContent("#alert-words"), reason);
    await page.click("#alert-close");
  }
  assert.equal(await page.locator("#taught li").count(), 2);
});

test("the package teaches too, and says what it was given wrongly", SLOW, async () => {
  const picture = (await readFile(partFile("farm", "dog.webp"))).toString("base64");
  const seen = await page.evaluate(async (base64) => {
    const { Bubo } = await import("/pkg/index.js");
    const bubo = await Bubo.load("/bundles/bubo-mini/bundle.json", { device: "wasm" });
    const chat = bubo.chat();
    const code = (promise) => promise.then(() => null, ({ code, message }) => `${code}: ${message}`);
    const early = await code(chat.teach("Fido"));
    const scenes = [];
    const blob = new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], { type: "image/webp" });
    const scene = await chat.addImage(blob, { onScene: ({ things }) => scenes.push(things.map(({ tag, taught }) => [tag, taught])) });
    const found = scene.things.map(({ tag }) => tag);
    await bubo.forgetTaught();
    const forgotten = scene.things.map(({ tag }) => tag);
    const taught = await chat.teach("Fido", { thing: forgotten.indexOf("dog"), kind: "dog" });
    const renamed = scenes.at(-1);
    const text = await (await bubo.exportTaught()).text();
    const errors = [
      await code(chat.teach(7)), await code(chat.teach("Fido", { thing: 0, box: [0, 0, 9, 9] })),
      await code(chat.teach("Fido", { box: [0, 0, 9] })), await code(chat.teach("Fido", { thing: 99 })),
      await code(chat.teach("Fido", { colour: 1 })), await code(bubo.importTaught(5)), await code(chat.teach("Fido", { sound: true })),
    ];
    const fido = scene.things.findIndex(({ tag }) => tag === "Fido");
    const not = await chat.teach("Fido", { not: true, thing: fido });
    const unnamed = scene.things.map(({ tag }) => tag);
    await bubo.forgetTaught();
    bubo.close();
    return { early, found, forgotten, taught, renamed, text, errors, not, unnamed };
  }, picture);
  assert.match(seen.early, /^input: .*no picture/);
  assert.ok(seen.found.includes("Rex"), "what the page was taught is known to the package: one storage");
  assert.ok(seen.forgotten.includes("dog"));
  assert.deepEqual(seen.taught.classes, [{ name: "Fido", kind: "dog", sense: "picture", examples: 1, counterexamples: 0 }]);
  assert.deepEqual([seen.taught.pictures, seen.taught.sounds, seen.taught.fault], [true, true, null]);
  assert.ok(seen.renamed.some(([tag, taught]) => tag === "Fido" && taught), JSON.stringify(seen.renamed));
  assert.equal(JSON.parse(seen.text).classes[0].name, "Fido");
  const reasons = [/string/, /one of thing, box and sound/, /four numbers/, /no thing 99/, /unknown option "colour"/, /Blob/, /no sound/];
  reasons.forEach((reason, at) => assert.match(seen.errors[at], reason));
  assert.equal(seen.not.classes[0].counterexamples, 1);
  assert.ok(!seen.unnamed.includes("Fido"), "a counterexample of the very view takes the name back");
});

test("nothing failed on the way, and the content security policy was kept", () => {
  assert.deepEqual(tab.errors, []);
  assert.deepEqual(tab.log.filter((line) => /Content Security Policy/.test(line)), []);
});
