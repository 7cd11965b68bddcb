// The line to the worker: numbered commands out, events and one end for each back.

import { BuboError, cancelled } from "./error.js";

/** The line of each Bubo, for the package's other modules. @type {WeakMap<object, Link>} */
export const links = new WeakMap();

export class Link {
  #worker;
  #pending = new Map();
  #next = 1;
  /** Why nothing can be asked any more. @type {BuboError | null} */
  #end = null;

  constructor() {
    this.#worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "bubo" });
    this.#worker.onmessage = ({ data }) => this.#receive(data);
    this.#worker.onerror = (event) => {
      event.preventDefault?.();
      this.#stop(new BuboError("internal", `the worker could not start or failed: ${event.message ?? "its file could not be read"}; load again`));
    };
    this.#worker.onmessageerror = () => this.#stop(new BuboError("internal", "a message of the worker could not be read; load again"));
  }

  /**
   * Sends a command and waits for its end; an abort ends it at once for the caller, and soon in the worker.
   * @param {object} command
   * @param {{signal?: AbortSignal, onEvent?: (event: object) => void, onStart?: (cancel: () => void) => void, transfer?: Transferable[]}} [options]
   *   `onStart` gets a function that asks the worker to stop, without ending the call here
   */
  call(command, { signal, onEvent, onStart, transfer = [] } = {}) {
    if (this.#end) return Promise.reject(this.#end);
    if (signal?.aborted) return Promise.reject(cancelled());
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      const cancel = () => this.#worker.postMessage({ type: "cancel", target: id });
      const abort = () => {
        cancel();
        settle(reject, cancelled());
      };
      const settle = (how, value) => {
        signal?.removeEventListener("abort", abort);
        this.#pending.delete(id);
        how(value);
      };
      signal?.addEventListener("abort", abort, { once: true });
      this.#pending.set(id, {
        onEvent,
        resolve: (value) => settle(resolve, value),
        reject: (error) => settle(reject, error),
      });
      this.#worker.postMessage({ ...command, id }, transfer);
      onStart?.(cancel);
    });
  }

  /** Ends the worker; what is still waited for is told so. */
  close() {
    this.#stop(new BuboError("closed", "this Bubo was closed; load a new one"));
  }

  #receive({ id, event, error, fatal, result }) {
    if (fatal) {
      this.#stop(new BuboError("internal", fatal));
      return;
    }
    const call = this.#pending.get(id);
    if (!call) return;
    if (event) call.onEvent?.(event);
    else if (error) call.reject(new BuboError(error.code, error.message));
    else call.resolve(result);
  }

  #stop(error) {
    if (this.#end) return;
    this.#end = error;
    this.#worker.terminate();
    for (const call of [...this.#pending.values()]) call.reject(error);
  }
}
