import { chromium } from "playwright-core";
const mode = process.argv[2];
const b = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const p = await b.newPage({ viewport: { width: 1280, height: 900 } });
p.setDefaultTimeout(120000);
p.on("console", (m) => console.log(m.type(), m.text().slice(0, 200)));
p.on("pageerror", (e) => console.log("ERR", e.message));
if (mode === "mock") {
  await p.route("**/pkg/index.js", async (route) => {
    const r = await route.fetch();
    await route.fulfill({ response: r, body: (await r.text()) + `
Bubo.prototype.taught = async () => ({ classes: [{ name: "Rex", kind: "dog", sense: "picture", examples: 2, counterexamples: 0 }, { name: "our doorbell", kind: "doorbell", sense: "sound", examples: 1, counterexamples: 0 }], pictures: true, sounds: true, fault: null });
` });
  });
}
await p.goto("http://localhost:8241/");
await p.setInputFiles("#picture-file", "/root/.cache/bubo/parts/farm/dog.webp");
await p.waitForSelector("#teach-form:not([hidden])");
await p.screenshot({ path: "/work/tmp/shots-teach/m1.png", fullPage: true });
await p.selectOption("#teach-what", "part");
await p.waitForTimeout(500);
await p.screenshot({ path: "/work/tmp/shots-teach/m2.png" });
await p.emulateMedia({ colorScheme: "dark" });
await p.setViewportSize({ width: 390, height: 844 });
await p.waitForTimeout(300);
console.log("overflow", await p.evaluate(() => document.documentElement.scrollWidth - innerWidth));
await p.screenshot({ path: "/work/tmp/shots-teach/m3.png", fullPage: true });
await b.close();
