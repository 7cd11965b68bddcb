/**
 * What every browser test needs: the page served, a Chromium with WebGPU, messages from the page, screenshots.
 *
 * `cargo xtask test browser` sets the variables below. Run by hand (`node --test tests/browser/`), the harness starts
 * `cargo xtask serve` itself and looks for the browser where Debian puts it.
 *
 * - `BUBO_URL`: the address of the served page
 * - `BUBO_CHROME`: the browser
 * - `BUBO_PARTS`: the folder of fetched parts, with the sample pictures and sounds
 * - `BUBO_SCREENSHOTS`: where screenshots go
 */

import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const root = fileURLToPath(new URL("../..", import.meta.url));
const screenshotFolder = process.env.BUBO_SCREENSHOTS ?? join(root, "target/screenshots");
const partsFolder = process.env.BUBO_PARTS ?? join(homedir(), ".cache/bubo/parts");

/** Without a graphics card Chromium runs WebGPU on SwiftShader; nothing here may call home. */
const chromiumFlags = [
  "--no-sandbox",
  "--enable-unsafe-webgpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-dev-shm-usage",
];

/**
 * The path of a fetched file, such as `partFile("farm", "dog.webp")`.
 *
 * @param {string} part its name in `tools/parts.json`
 * @param {string} file
 */
export function partFile(part, file) {
  return join(partsFolder, part, file);
}

/**
 * Starts a browser with a profile of its own, so that storage is empty at first and is kept until it is closed.
 *
 * Close it with `await browser.close()` in `after`, also when a test failed.
 *
 * @param {string[]} moreFlags of Chromium, beside those that every test needs
 */
export async function openBrowser(moreFlags = []) {
  const server = process.env.BUBO_URL ? undefined : await startServer();
  const profile = await mkdtemp(join(tmpdir(), "bubo-test-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.BUBO_CHROME ?? "/usr/bin/chromium",
    args: [...chromiumFlags, ...moreFlags],
    baseURL: process.env.BUBO_URL ?? server.address,
    viewport: { width: 1280, height: 900 },
  });
  return new Browser(context, profile, server);
}

/**
 * A browser with one tab for all tests of a file: opened before the first, closed after the last, also when one failed.
 *
 * @param {string} address relative to the site
 * @param {string[]} moreFlags of Chromium
 * @returns {{ browser: Browser, tab: Tab }} to be read within tests, once both are open
 */
export function useTab(address, moreFlags = []) {
  const used = {};
  before(async () => {
    used.browser = await openBrowser(moreFlags);
    used.tab = await used.browser.open(address);
  });
  after(() => used.browser?.close());
  return used;
}

class Browser {
  #context;
  #profile;
  #server;

  constructor(context, profile, server) {
    this.#context = context;
    this.#profile = profile;
    this.#server = server;
  }

  /**
   * Opens an address of the site in a new tab.
   *
   * The page can send messages with `report(message)`; {@link Tab.message} waits for them.
   *
   * @param {string} address relative to the site, such as `""` or `"?device=wasm"`
   */
  async open(address = "") {
    const page = await this.#context.newPage();
    const tab = new Tab(page);
    await page.exposeFunction("report", (message) => tab.receive(message));
    await page.goto(address);
    return tab;
  }

  async close() {
    await this.#context.close();
    this.#server?.process.kill();
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

class Tab {
  /** Playwright's page, for everything that has no helper here. */
  page;
  /** What the page wrote to its console, and errors that it did not catch, in order. */
  log = [];
  /** Errors that the page did not catch; a test that expects none asserts that this is empty. */
  errors = [];
  #messages = [];
  #waiting = new Set();

  constructor(page) {
    this.page = page;
    page.on("console", (line) => this.log.push(`${line.type()}: ${line.text()}`));
    page.on("pageerror", (error) => {
      this.errors.push(error.message);
      this.log.push(`uncaught: ${error.message}`);
    });
    page.on("crash", () => this.errors.push("the page crashed"));
  }

  /** Takes a message from the page. */
  receive(message) {
    this.#messages.push(message);
    for (const look of this.#waiting) look();
  }

  /**
   * Takes the first message, past or future, that `fits`; messages before it stay for other waits.
   *
   * @template T
   * @param {(message: T) => boolean} fits
   * @param {number} timeout_ms
   * @returns {Promise<T>}
   */
  message(fits, timeout_ms = 60_000) {
    return new Promise((resolve, reject) => {
      const look = () => {
        const at = this.#messages.findIndex(fits);
        if (at < 0) return;
        clearTimeout(timer);
        this.#waiting.delete(look);
        resolve(this.#messages.splice(at, 1)[0]);
      };
      const timer = setTimeout(() => {
        this.#waiting.delete(look);
        const got = JSON.stringify(this.#messages).slice(0, 2000);
        reject(new Error(`no such message within ${timeout_ms} ms; got ${got}; console:\n${this.log.join("\n")}`));
      }, timeout_ms);
      this.#waiting.add(look);
      look();
    });
  }

  /** Saves what the page looks like as `<name>.png`. */
  async screenshot(name) {
    await mkdir(screenshotFolder, { recursive: true });
    await this.page.screenshot({ path: join(screenshotFolder, `${name}.png`), fullPage: true });
  }

  close() {
    return this.page.close();
  }
}

/** Starts the project's own server on a free port and reads its address from its first line. */
async function startServer() {
  const server = spawn("cargo", ["xtask", "serve", "--port", "0"], { cwd: root, stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: server.stdout })) {
    return { process: server, address: line.trim() };
  }
  throw new Error("`cargo xtask serve` ended before it said where it listens");
}
