/** From opened, flooded blocks to a value, with the checks of the protocol. Source: ePrint 2023/815, §4. */

import type { FheType } from "./handle.js";
import { WORD_MASK } from "./ring.js";

const DELTA = 123n;

/** Largest |c − m·Δ| of an honest decryption: 2·C(n,t)·2^110 + 2^70. Throws a `RangeError` for an impossible committee. */
export function floodBound(n: number, t: number): bigint {
  if (t < 1 || n > 31 || n < 3 * t + 1) throw new RangeError(`${n} parties can't tolerate ${t} faults`);
  let sets = 1;
  for (let i = 0; i < t; i++) sets = (sets * (n - i)) / (i + 1);
  if (sets > 2000) throw new RangeError(`${n} parties with ${t} faults need ${sets} sets`);
  const bound = ((2n * BigInt(sets)) << 110n) + (1n << 70n);
  if (bound >= 1n << (DELTA - 1n)) throw new RangeError("the flooding reaches the message bits");
  return bound;
}

/** The value of opened blocks, least significant first, or why there is none. */
export function decodeBlocks(
  type: FheType,
  opened: readonly bigint[],
  bound: bigint,
): { value: bigint } | { fault: "Residual" | "Padding" | "Width" } {
  let value = 0n;
  for (let block = 0; block < type.blocks; block++) {
    const c = opened[block]!;
    const m = ((c + (1n << (DELTA - 1n))) & WORD_MASK) >> DELTA;
    const residual = BigInt.asIntN(128, c - (m << DELTA));
    if ((residual < 0n ? -residual : residual) > bound) return { fault: "Residual" };
    if (m >= 16n) return { fault: "Padding" };
    value |= m << BigInt(4 * block);
  }
  return value >> BigInt(type.valueBits) === 0n ? { value } : { fault: "Width" };
}
