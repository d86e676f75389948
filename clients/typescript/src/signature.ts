/** Signatures of parties: r ‖ s ‖ v with low s and v 27 or 28 (docs/spec/eip712.md). */

import { secp256k1 } from "@noble/curves/secp256k1.js";
import { keccak_256 } from "@noble/hashes/sha3.js";
import { type Hex, concat, toHex } from "./bytes.js";

/** The signer of a digest in lower case, or why there is none. */
export function recoverSigner(digest: Uint8Array, signature: Uint8Array): Hex | { fault: "BadV" | "HighS" | "Unrecoverable" } {
  const v = signature[64]!;
  if (v !== 27 && v !== 28) return { fault: "BadV" };
  let s = 0n;
  for (const byte of signature.subarray(32, 64)) s = (s << 8n) | BigInt(byte);
  if (s > secp256k1.Point.Fn.ORDER >> 1n) return { fault: "HighS" };
  try {
    const recovered = concat(Uint8Array.of(v - 27), signature.subarray(0, 64));
    const point = secp256k1.Signature.fromBytes(recovered, "recovered").recoverPublicKey(digest);
    return toHex(keccak_256(point.toBytes(false).subarray(1)).subarray(12));
  } catch {
    return { fault: "Unrecoverable" };
  }
}
