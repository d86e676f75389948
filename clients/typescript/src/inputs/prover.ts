/** The proving of a list by tfhe's WebAssembly, in a thread of its own: it takes seconds. */

import { InputError } from "../errors.js";
import { MAX_LIST_BYTES, type TypedValue } from "./list.js";

/** What is to be proven. Can be sent to another thread. */
export interface ProverTask {
  readonly publicKey: Uint8Array;
  readonly crs: Uint8Array;
  readonly metadata: Uint8Array;
  readonly values: readonly TypedValue[];
}

/** Makes proven lists: tfhe's safe serialisation of a `ProvenCompactCiphertextList`. */
export type Prover = (task: ProverTask, signal?: AbortSignal) => Promise<Uint8Array>;

/** What a thread answers to a {@link ProverTask}. */
export type ProverAnswer = { readonly list: Uint8Array } | { readonly problem: string };

interface Freed {
  free(): void;
}
interface List extends Freed {
  safe_serialize(limit: bigint): Uint8Array;
}
interface Builder extends Freed {
  push_boolean(value: boolean): void;
  push_u8(value: number): void;
  push_u16(value: number): void;
  push_u32(value: number): void;
  push_u64(value: bigint): void;
  push_u128(value: bigint): void;
  push_u160(value: bigint): void;
  push_u256(value: bigint): void;
  build_with_proof_packed(crs: Freed, metadata: Uint8Array, load: number): List;
}

/** The part of the packages `tfhe` and `node-tfhe` that is used. */
export interface Tfhe {
  readonly TfheCompactPublicKey: { safe_deserialize(bytes: Uint8Array, limit: bigint): Freed };
  readonly CompactPkeCrs: { safe_deserialize(bytes: Uint8Array, limit: bigint): Freed };
  readonly ProvenCompactCiphertextList: { builder(publicKey: Freed): Builder };
  readonly ZkComputeLoad: { readonly Proof: number };
}

function push(builder: Builder, { type, value }: TypedValue): void {
  switch (type) {
    case "bool":
      return builder.push_boolean(value === 1n);
    case "uint8":
      return builder.push_u8(Number(value));
    case "uint16":
      return builder.push_u16(Number(value));
    case "uint32":
      return builder.push_u32(Number(value));
    case "uint64":
      return builder.push_u64(value);
    case "uint128":
      return builder.push_u128(value);
    case "address":
      return builder.push_u160(value);
    case "uint256":
      return builder.push_u256(value);
  }
}

/** Encrypts and proves, in this thread: seconds. The user's share of the work, so that the coprocessor's is short. */
export function prove(tfhe: Tfhe, task: ProverTask): Uint8Array {
  const made: Freed[] = [];
  const keep = <T extends Freed>(value: T): T => {
    made.push(value);
    return value;
  };
  try {
    const publicKey = keep(tfhe.TfheCompactPublicKey.safe_deserialize(task.publicKey, BigInt(task.publicKey.length)));
    const crs = keep(tfhe.CompactPkeCrs.safe_deserialize(task.crs, BigInt(task.crs.length)));
    const builder = keep(tfhe.ProvenCompactCiphertextList.builder(publicKey));
    for (const value of task.values) push(builder, value);
    const list = keep(builder.build_with_proof_packed(crs, task.metadata, tfhe.ZkComputeLoad.Proof));
    return list.safe_serialize(BigInt(MAX_LIST_BYTES));
  } finally {
    for (const value of made) value.free();
  }
}

/** The answer of a thread: the list, or what went wrong in words. */
export async function answer(tfhe: () => Promise<Tfhe>, task: ProverTask): Promise<ProverAnswer> {
  try {
    return { list: prove(await tfhe(), task) };
  } catch (error) {
    return { problem: error instanceof Error ? error.message : String(error) };
  }
}

/** A thread that proves one list. */
export interface Thread {
  /** Sends the task; `done` is called once, with the answer or what broke the thread. */
  start(task: ProverTask, done: (answer: ProverAnswer) => void): void;
  /** Ends it, whatever it is doing. */
  end(): void;
}

/** A prover that takes a new thread for each list, which is how a proof can be given up in the middle. */
export function threadProver(spawn: () => Thread): Prover {
  return (task, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason as Error);
      const thread = spawn();
      const end = () => {
        signal?.removeEventListener("abort", stop);
        thread.end();
      };
      const stop = () => {
        end();
        reject(signal?.reason as Error);
      };
      signal?.addEventListener("abort", stop, { once: true });
      thread.start(task, (answer) => {
        end();
        if ("list" in answer) resolve(answer.list);
        else reject(new InputError("Prover", `the values can't be encrypted: ${answer.problem}`));
      });
    });
}
