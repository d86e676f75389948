/** The thread that proves one list in Node. */

import { parentPort } from "node:worker_threads";
import { type ProverTask, type Tfhe, answer } from "./prover.js";

async function load(): Promise<Tfhe> {
  const loaded: unknown = await import("node-tfhe");
  return (loaded as { readonly default: Tfhe }).default;
}

parentPort?.once("message", (task: ProverTask) => {
  void answer(load, task).then((result) => parentPort?.postMessage(result));
});
