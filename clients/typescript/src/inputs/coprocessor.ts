/** A coprocessor's API (docs/spec/coprocessor-http.md): public keys, and the list that is posted. */

import { sha256 } from "@noble/hashes/sha2.js";
import { type Hex, ascii, concat, toHex, tryFromHex } from "../bytes.js";
import { CoprocessorError } from "../errors.js";
import { Http, type HttpOptions } from "../http.js";
import { type InputBinding, MAX_VALUES } from "./list.js";

/** What is needed to encrypt, checked against the id of the key. */
export interface InputKeys {
  /** Compact public key, in tfhe's safe serialisation. */
  readonly publicKey: Uint8Array;
  /** Reference string of the proofs, in tfhe's safe serialisation. */
  readonly crs: Uint8Array;
  /** Most bits in one list. */
  readonly maxBits: number;
}

/** A coprocessor's answer to a list. */
export interface InputReceipt {
  readonly handles: readonly Hex[];
  readonly inputProof: Uint8Array;
}

/** By parameter set: its number in the bundle's digest, and the bits that one list may have. */
const PARAMS: Record<string, { id: number; maxBits: number }> = {
  production: { id: 1, maxBits: 2048 },
  "insecure-test": { id: 0xf1, maxBits: 512 },
};
/** Files of a bundle in the order of its digest, with the most bytes that they may have (docs/spec/public-bundle.md). */
const FILES = ["public_key.bin", "keyset.bin", "crs.bin"] as const;
const MAX_BYTES = { "public_key.bin": 1 << 20, "crs.bin": 16 << 20 };

/** A coprocessor. */
export class Coprocessor {
  private readonly http: Http;

  constructor(options: HttpOptions) {
    this.http = new Http(options, "coprocessor", CoprocessorError);
  }

  /**
   * Public key and reference string of the key `keyId`. Everything that the coprocessor sends is checked: the id is a hash of it.
   */
  async keys(keyId: Hex, signal?: AbortSignal): Promise<InputKeys> {
    const { body } = await this.http.json("GET", "/v1/keys", signal);
    const malformed = (what: string) => new CoprocessorError("Malformed", `key.json: ${what}`);
    const params = PARAMS[String(body["params"])];
    if (!params) throw malformed("unknown parameters");
    const files = body["files"] as Record<string, { sha256?: unknown } | undefined> | undefined;
    const digests = FILES.map((name) => {
      const digest = tryFromHex(files?.[name]?.sha256, 32);
      if (!digest) throw malformed(`no digest of ${name}`);
      return digest;
    });
    const bundle = sha256(concat(Uint8Array.of(params.id), ...digests));
    const id = toHex(sha256(concat(ascii("KMS-KEY-1"), bundle)));
    if (id !== keyId.toLowerCase()) {
      throw new CoprocessorError("OtherKey", `the coprocessor has key ${id}, not ${keyId}`);
    }
    const file = async (name: keyof typeof MAX_BYTES) => {
      const bytes = await this.http.file(`/v1/keys/${name}`, MAX_BYTES[name], signal);
      if (toHex(sha256(bytes)) !== toHex(digests[FILES.indexOf(name)]!)) {
        throw new CoprocessorError("Digest", `${name} is not what key.json says`);
      }
      return bytes;
    };
    const [publicKey, crs] = await Promise.all([file("public_key.bin"), file("crs.bin")]);
    return { publicKey, crs, maxBits: params.maxBits };
  }

  /** Posts a proven list. The same list gets the same answer. */
  async post(list: Uint8Array, binding: InputBinding, signal?: AbortSignal): Promise<InputReceipt> {
    const chainId = Number(binding.hostChainId);
    if (!Number.isSafeInteger(chainId)) throw new CoprocessorError("unknown_chain", `chain ${binding.hostChainId}`);
    const { contract, user } = binding;
    const { body, status } = await this.http.json("POST", "/v1/inputs", signal, { chainId, contract, user, ciphertext: toHex(list) });
    const handles = body["handles"];
    const inputProof = tryFromHex(body["inputProof"]);
    const right = Array.isArray(handles) && handles.length <= MAX_VALUES && handles.every((handle) => tryFromHex(handle, 32));
    if (!right || !inputProof) throw new CoprocessorError("Malformed", "an answer without handles and proof", status);
    return { handles: handles.map((handle: string): Hex => `0x${handle.replace(/^0x/, "").toLowerCase()}`), inputProof };
  }
}
