/**
 * Encryption of inputs in a web page, by the package `tfhe`, which is loaded when the first list is proven. The page must be
 * cross-origin isolated: tfhe's WebAssembly computes in several threads with shared memory.
 *
 * @packageDocumentation
 */

import { InputError } from "../errors.js";
import { InputEncryptor, type InputEncryptorOptions } from "./encryptor.js";
import { type Prover, type ProverAnswer, threadProver } from "./prover.js";

export * from "./common.js";

/** Options of {@link browserProver}. */
export interface BrowserProverOptions {
  /** Starts the worker script, for bundlers that do not find `@kms/client/inputs/worker` themselves. */
  readonly worker?: () => Worker;
}

/** Proves with `tfhe` in a web worker. */
export function browserProver(options: BrowserProverOptions = {}): Prover {
  const spawn = options.worker ?? (() => new Worker(new URL("./worker.js", import.meta.url), { type: "module" }));
  const prover = threadProver(() => {
    const worker = spawn();
    return {
      start: (task, done) => {
        worker.onmessage = ({ data }: MessageEvent<ProverAnswer>) => done(data);
        worker.onerror = (event) => done({ problem: event.message || "the worker did not start" });
        worker.postMessage(task);
      },
      end: () => worker.terminate(),
    };
  });
  return async (task, signal) => {
    if (!globalThis.crossOriginIsolated) {
      const headers = "Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp";
      throw new InputError("NotIsolated", `encrypting needs a page that is served with ${headers}`);
    }
    return prover(task, signal);
  };
}

/** An encryptor of inputs. */
export function createInputEncryptor(options: InputEncryptorOptions & BrowserProverOptions): InputEncryptor {
  return new InputEncryptor({ ...options, prover: options.prover ?? browserProver(options) });
}
