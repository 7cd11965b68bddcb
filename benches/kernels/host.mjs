// Runs the benchmarks of a compiled module; the same in Node and in a page.
export async function runBenchmarks(bytes, filter, printLine) {
  let memory;
  const host = {
    now_ms: () => performance.now(),
    print: (at, length) => printLine(new TextDecoder().decode(new Uint8Array(memory.buffer, at, length))),
  };
  const { instance } = await WebAssembly.instantiate(bytes, { host });
  memory = instance.exports.memory;
  const text = new TextEncoder().encode(filter);
  const at = instance.exports.allocate(text.length);
  new Uint8Array(memory.buffer, at, text.length).set(text);
  instance.exports.run(at, text.length);
}
