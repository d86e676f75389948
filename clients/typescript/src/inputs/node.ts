/**
 * Encryption of inputs in Node, by the package `node-tfhe`, which is loaded when the first list is proven.
 *
 * @packageDocumentation
 */

import { Worker } from "node:worker_threads";
import { InputEncryptor, type InputEncryptorOptions } from "./encryptor.js";
import { type Prover, type ProverAnswer, threadProver } from "./prover.js";

export * from "./common.js";

/** Proves with `node-tfhe` in a worker thread. */
export function nodeProver(): Prover {
  return threadProver(() => {
    const worker = new Worker(new URL("./thread.node.js", import.meta.url));
    return {
      start: (task, done) => {
        worker.once("message", (answer: ProverAnswer) => done(answer));
        worker.once("error", (error) => done({ problem: error.message }));
        worker.postMessage(task);
      },
      end: () => void worker.terminate(),
    };
  });
}

/** An encryptor of inputs. */
export function createInputEncryptor(options: InputEncryptorOptions): InputEncryptor {
  return new InputEncryptor({ ...options, prover: options.prover ?? nodeProver() });
}
