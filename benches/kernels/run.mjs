// Times the kernels in WebAssembly, in Node or in headless Chromium:
//   node --experimental-wasm-relaxed-simd benches/kernels/run.mjs MODULE.wasm [FILTER]
//   CHROMIUM=/usr/bin/chromium node benches/kernels/run.mjs MODULE.wasm [FILTER]
// The top of src/lib.rs says how the module is built.
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { runBenchmarks } from "./host.mjs";

const [path, filter = ""] = process.argv.slice(2);
const module = await readFile(path);

async function runInChromium(binary) {
  const page = `<script type="module">
    import { runBenchmarks } from "/host.mjs";
    const post = (text) => fetch("/line", { method: "POST", body: text });
    const lines = [];
    try {
      const bytes = await (await fetch("/module.wasm")).arrayBuffer();
      await runBenchmarks(bytes, ${JSON.stringify(filter)}, (line) => lines.push(line));
    } catch (error) { lines.push(String(error)); }
    await post(lines.join("\\n"));
    await fetch("/done", { method: "POST" });
  </script>`;
  const files = {
    "/": ["text/html", page],
    "/host.mjs": ["text/javascript", await readFile(new URL("./host.mjs", import.meta.url))],
    "/module.wasm": ["application/wasm", module],
  };
  const profile = await mkdtemp(join(tmpdir(), "kernel-bench-"));
  await new Promise((resolve, reject) => {
    const server = createServer(async (request, response) => {
      const [type, body] = files[request.url] ?? ["text/plain", ""];
      response.writeHead(200, { "content-type": type }).end(body);
      if (request.url === "/line") for await (const part of request) console.log(part.toString());
      if (request.url === "/done") { server.close(); browser.kill(); resolve(); }
    });
    let browser;
    const flags = ["--headless=new", "--no-sandbox", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-dev-shm-usage", "--disable-gpu", `--user-data-dir=${profile}`];
    server.listen(0, "127.0.0.1", () => {
      browser = spawn(binary, [...flags, `http://127.0.0.1:${server.address().port}/`], { stdio: "ignore" });
      browser.on("error", reject);
    });
  });
  await rm(profile, { recursive: true, force: true, maxRetries: 5 }).catch(() => {});
  process.exit(0);
}

if (process.env.CHROMIUM) await runInChromium(process.env.CHROMIUM);
else await runBenchmarks(module, filter, console.log);
