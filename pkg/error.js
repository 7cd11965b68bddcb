// One error class for everything that the package refuses or fails at, and the checks that throw it.

/** An error with a stable `code`; the message is a sentence for people and may change. */
export class BuboError extends Error {
  /** @param {string} code @param {string} message @param {{cause?: unknown}} [options] */
  constructor(code, message, options) {
    super(message, options);
    this.name = "BuboError";
    this.code = code;
  }

  /** What was thrown elsewhere, as a BuboError. @param {any} thrown @param {string} code used if it has none */
  static from(thrown, code = "internal") {
    if (thrown instanceof BuboError) return thrown;
    if (thrown?.name === "AbortError") return cancelled();
    return new BuboError(thrown?.code && typeof thrown.code === "string" ? thrown.code : code,
      String(thrown?.message ?? thrown), { cause: thrown });
  }
}

/** The error of a call that its caller stopped. */
export function cancelled() {
  return new BuboError("cancelled", "stopped");
}

/** @param {AbortSignal | undefined} signal */
export function throwIfAborted(signal) {
  if (signal?.aborted) throw cancelled();
}

/** Refuses options that the function does not know, by name. @param {string} where @param {object} options @param {string[]} known */
export function checkOptions(where, options, known) {
  if (options === null || typeof options !== "object") {
    throw new BuboError("input", `${where}: options must be an object`);
  }
  const unknown = Object.keys(options).filter((name) => !known.includes(name));
  if (unknown.length > 0) {
    throw new BuboError("input", `${where}: unknown option ${unknown.map((name) => `"${name}"`).join(", ")}; known are ${known.join(", ")}`);
  }
  const { signal } = options;
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new BuboError("input", `${where}: signal must be an AbortSignal`);
  }
  throwIfAborted(signal);
}
