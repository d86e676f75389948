/** The user's ML-KEM keys (FIPS 203). */

import { ml_kem512, ml_kem768 } from "@noble/post-quantum/ml-kem.js";
import { concat } from "./bytes.js";

/** A parameter set. Its length tells which one a public key is of. */
export type Kem = "ML-KEM-768" | "ML-KEM-512";

interface KemFacts {
  readonly id: number;
  readonly publicKeyBytes: number;
  readonly ciphertextBytes: number;
}

/** Identifier and sizes of the parameter sets. */
export const KEMS: Readonly<Record<Kem, KemFacts>> = {
  "ML-KEM-768": { id: 1, publicKeyBytes: 1184, ciphertextBytes: 1088 },
  "ML-KEM-512": { id: 2, publicKeyBytes: 800, ciphertextBytes: 768 },
};

const engines = { "ML-KEM-768": ml_kem768, "ML-KEM-512": ml_kem512 } as const;

/** Bytes of the seed d ‖ z of a key pair. */
export const SEED_BYTES = 64;

/** The parameter set of a public key, or why the bytes are none. */
export function kemOfPublicKey(publicKey: Uint8Array): Kem | { fault: "Length" | "Modulus" } {
  const kem = (Object.keys(KEMS) as Kem[]).find((k) => KEMS[k].publicKeyBytes === publicKey.length);
  if (!kem) return { fault: "Length" };
  // FIPS 203 §7.2: all coefficients (12 bits each, before the 32 bytes of ρ) are below q.
  for (let i = 0; i < publicKey.length - 32; i += 3) {
    const low = publicKey[i]! | ((publicKey[i + 1]! & 15) << 8);
    const high = (publicKey[i + 1]! >> 4) | (publicKey[i + 2]! << 4);
    if (low >= 3329 || high >= 3329) return { fault: "Modulus" };
  }
  return kem;
}

/** A user's key pair. Make one per permit, and keep the seed as long as the permit is used. */
export class KeyPair {
  /** Parameter set. */
  readonly kem: Kem;
  /** What stands in the permit. */
  readonly publicKey: Uint8Array;
  readonly #seed: Uint8Array;
  readonly #secretKey: Uint8Array;

  private constructor(kem: Kem, seed: Uint8Array) {
    const { publicKey, secretKey } = engines[kem].keygen(seed);
    this.kem = kem;
    this.publicKey = publicKey;
    this.#seed = seed;
    this.#secretKey = secretKey;
  }

  /** A fresh key pair, from the platform's randomness. */
  static generate(kem: Kem = "ML-KEM-768"): KeyPair {
    return new KeyPair(kem, globalThis.crypto.getRandomValues(new Uint8Array(SEED_BYTES)));
  }

  /** The key pair of a stored seed. */
  static fromSeed(seed: Uint8Array, kem: Kem = "ML-KEM-768"): KeyPair {
    if (seed.length !== SEED_BYTES) throw new RangeError(`a seed has ${SEED_BYTES} bytes`);
    return new KeyPair(kem, concat(seed));
  }

  /** A copy of the seed d ‖ z, to store the key pair. Secret. */
  exportSeed(): Uint8Array {
    return concat(this.#seed);
  }

  /** The shared secret of a KEM ciphertext; pseudorandom for one that was made for another key. */
  decapsulate(ciphertext: Uint8Array): Uint8Array {
    return engines[this.kem].decapsulate(ciphertext, this.#secretKey);
  }

  /** Overwrites the secret parts, as far as the engine allows. The pair is of no use afterwards. */
  destroy(): void {
    this.#seed.fill(0);
    this.#secretKey.fill(0);
  }
}
