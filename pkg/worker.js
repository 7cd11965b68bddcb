// The worker: owns the wasm module and the session. Commands run one after the other, loading beside them.

import start, { WebSession } from "./dist/bubo.js";

/** @type {WebSession | null} */
let session = null;
/** The module's own memory, which only grows. @type {WebAssembly.Memory | null} */
let memory = null;
/** Ends when the command before the next one has. */
let before = Promise.resolve();
/** Commands that were stopped before they began. */
const stopped = new Set();

const post = (message, transfer = []) => self.postMessage(message, transfer);
const broken = (reason) => post({ fatal: `Bubo stopped by a fault of its own (${reason}); load it again` });

// A panic in wasm ends in a trap that no promise hears of.
self.addEventListener("error", (event) => broken(event.message));
self.addEventListener("unhandledrejection", (event) => broken(String(event.reason?.message ?? event.reason)));

self.onmessage = ({ data: command }) => {
  switch (command.type) {
    case "cancel":
      stopped.add(command.target);
      session?.cancel(command.target);
      break;
    case "open":
    case "load":
    case "memory":
    case "taught":
    case "export_taught":
    case "gpu":
      answer(command);
      break;
    default:
      before = before.then(() => answer(command));
  }
};

async function answer(command) {
  const { id } = command;
  try {
    if (stopped.has(id)) throw { code: "cancelled", message: "stopped" };
    post({ id, result: await run(command) });
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError) broken(error.message);
    else post({ id, error: { code: error?.code ?? "internal", message: String(error?.message ?? error) } });
  } finally {
    stopped.delete(id);
  }
}

async function run(command) {
  const { id } = command;
  switch (command.type) {
    case "open": return open(command);
    case "load": return session.load(id);
    case "add_image": return session.addImage(...pixels(command.bitmap), id);
    case "add_audio": return session.addAudio(command.samples, command.sampleRate, id);
    case "ask": return session.ask(command.question, command.options, id);
    case "memory": return memory.buffer.byteLength;
    case "gpu": return session.gpuCounters();
    case "gpu_self_test": return session.gpuSelfTest();
    case "stages": return runStages(command);
    case "teach": return session.teach(command.teaching, id);
    case "import_taught": return session.importTaught(command.json, id);
    case "forget_taught": return session.forgetTaught(command.name, id);
    case "taught": return session.taught();
    case "export_taught": return session.exportTaught();
    case "clear": return session.clear();
    case "remove_image": return session.removeImage();
    case "remove_audio": return session.removeAudio();
    default: throw { code: "input", message: `unknown command ${command.type}` };
  }
}

async function open({ bundleUrl, device }) {
  ({ memory } = await start());
  let chosen = await chooseDevice(device);
  const opened = () => WebSession.open(bundleUrl, { device: chosen.device }, (event) => {
    const { id: target, ...rest } = event;
    post({ id: target, event: rest });
  });
  try {
    session = await opened();
  } catch (error) {
    // A card that fails at once or computes wrongly is none, unless somebody asked for it.
    if (chosen.reason !== "real-gpu" || !["no-webgpu", "gpu"].includes(error.code)) throw error;
    chosen = { device: "wasm", reason: "faulty-gpu" };
    session = await opened();
  }
  return { device: chosen.device, deviceReason: chosen.reason, cacheFault: session.cacheFault ?? null };
}

/** WebGPU on a real GPU; a processor that plays one is slower than wasm SIMD. */
async function chooseDevice(wanted) {
  if (wanted === "wasm") return { device: "wasm", reason: "chosen" };
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  if (wanted === "webgpu") {
    if (adapter) return { device: "webgpu", reason: "chosen" };
    throw { code: "no-webgpu", message: "this browser offers no WebGPU; use the device \"auto\" or \"wasm\"" };
  }
  if (!navigator.gpu) return { device: "wasm", reason: "no-webgpu" };
  if (!adapter) return { device: "wasm", reason: "no-adapter" };
  const { isFallbackAdapter, architecture } = adapter.info ?? {};
  if (isFallbackAdapter || architecture === "swiftshader") return { device: "wasm", reason: "software-gpu" };
  return { device: "webgpu", reason: "real-gpu" };
}

/** Stages alone; see stages.js. */
function runStages({ options, bitmap, samples, sampleRate = 0, id }) {
  const [width, height, rgba] = bitmap ? pixels(bitmap) : [0, 0, undefined];
  return session.runStages(options, width, height, rgba, samples, sampleRate, id);
}

/** Width, height and RGBA bytes of a picture, laid over white. */
function pixels(bitmap) {
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return [width, height, context.getImageData(0, 0, width, height).data];
}
