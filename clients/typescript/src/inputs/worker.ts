/** The web worker that proves one list. */

import { type ProverTask, type Tfhe, answer } from "./prover.js";

/** tfhe's own threads; more than this many bring nothing. */
const MAX_THREADS = 8;

interface WebTfhe extends Tfhe {
  default(): Promise<unknown>;
  initThreadPool(threads: number): Promise<unknown>;
}

async function load(): Promise<Tfhe> {
  const loaded: unknown = await import("tfhe");
  const tfhe = loaded as WebTfhe;
  await tfhe.default();
  await tfhe.initThreadPool(Math.min(navigator.hardwareConcurrency || 1, MAX_THREADS));
  return tfhe;
}

self.onmessage = ({ data }: MessageEvent<ProverTask>) => {
  void answer(load, data).then((result) => self.postMessage(result));
};
