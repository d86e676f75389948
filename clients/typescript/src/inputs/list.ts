/** Lists of values to encrypt, and what docs/spec binds them to: metadata, handles, proofs. */

import { keccak_256 } from "@noble/hashes/sha3.js";
import { type Hex, ascii, concat, equal, fromHex, integer, toHex, tryFromHex } from "../bytes.js";
import { InputError } from "../errors.js";
import { FHE_TYPES, type FheType, type FheTypeName } from "../handle.js";

/** Values in one list: handles count them in one byte. */
export const MAX_VALUES = 255;
/** No proven list is longer. */
export const MAX_LIST_BYTES = 128 * 1024;
const SIGNATURE_BYTES = 65;

/** A value of a type, checked. */
export interface TypedValue {
  readonly type: FheTypeName;
  /** A boolean is 0 or 1, an address its number. */
  readonly value: bigint;
}

/** Who may use an input, and where. */
export interface InputBinding {
  /** Host chain. */
  readonly hostChainId: bigint;
  /** Its ACL. */
  readonly accessControl: Hex;
  /** The contract that takes the input. */
  readonly contract: Hex;
  /** Who hands it in. */
  readonly user: Hex;
}

const types = new Map<FheTypeName, FheType>([...FHE_TYPES.values()].map((type) => [type.name, type]));

/** The type of a name. Throws an {@link InputError}. */
export function typeOf(name: FheTypeName): FheType {
  const type = types.get(name);
  if (!type) throw new InputError("UnsupportedType", `no type: ${String(name).slice(0, 40)}`);
  return type;
}

/** Checks a value. Throws an {@link InputError}. */
export function typedValue(name: FheTypeName, value: unknown): TypedValue {
  const type = typeOf(name);
  const fail = (): never => {
    throw new InputError("OutOfRange", `no ${name}: ${String(value).slice(0, 80)}`);
  };
  if (name === "bool") return typeof value === "boolean" ? { type: name, value: value ? 1n : 0n } : fail();
  if (name === "address") {
    const bytes = tryFromHex(value, 20) ?? fail();
    return { type: name, value: BigInt(toHex(bytes)) };
  }
  if (typeof value !== "bigint" && !Number.isSafeInteger(value)) fail();
  const number = BigInt(value as bigint | number);
  return number >= 0n && number < 1n << BigInt(type.valueBits) ? { type: name, value: number } : fail();
}

/** Checks that values can be one list. Throws an {@link InputError}. */
export function checkList(values: readonly TypedValue[], maxBits: number): void {
  if (values.length === 0 || values.length > MAX_VALUES) {
    throw new InputError("WrongCount", `a list has 1 to ${MAX_VALUES} values, not ${values.length}`);
  }
  const bits = values.reduce((sum, value) => sum + typeOf(value.type).bits, 0);
  if (bits > maxBits) throw new InputError("TooManyBits", `a list has at most ${maxBits} bits, not ${bits}`);
}

/** The 92 bytes that a list's proof is bound to (docs/spec/handle.md). */
export function inputMetadata(binding: InputBinding): Uint8Array {
  const address = (text: Hex) => {
    const bytes = tryFromHex(text, 20);
    if (!bytes) throw new InputError("MalformedAddress", `no address: ${String(text).slice(0, 80)}`);
    return bytes;
  };
  const { hostChainId, accessControl, contract, user } = binding;
  return concat(integer(hostChainId, 32), address(accessControl), address(contract), address(user));
}

/** Handle of the value at `index` of a list whose keccak-256 is `listHash` (docs/spec/handle.md). */
export function inputHandle(listHash: Uint8Array, accessControl: Hex, hostChainId: bigint, index: number, type: FheType): Hex {
  const acl = fromHex(accessControl, 20);
  const preimage = concat(ascii("KMS-INPUT-1"), listHash, acl, integer(hostChainId, 32), Uint8Array.of(index));
  const hash = keccak_256(preimage).subarray(0, 21);
  return toHex(concat(hash, Uint8Array.of(index), integer(hostChainId, 8), Uint8Array.of(type.id, 0)));
}

/** Handles of a list, in its order. */
export function listHandles(list: Uint8Array, binding: InputBinding, values: readonly TypedValue[]): Hex[] {
  const hash = keccak_256(list);
  const { accessControl, hostChainId } = binding;
  return values.map(({ type }, index) => inputHandle(hash, accessControl, hostChainId, index, typeOf(type)));
}

/** An input proof (docs/spec/proof.md), taken apart. */
export interface ParsedInputProof {
  readonly handles: readonly Hex[];
  readonly signatures: readonly Uint8Array[];
  readonly extraData: Uint8Array;
}

/** Takes an input proof apart; `undefined` if its counts are not those of its bytes, or it says nothing. */
export function parseInputProof(proof: Uint8Array): ParsedInputProof | undefined {
  const [h, k] = [proof[0] ?? 0, proof[1] ?? 0];
  const end = 2 + 32 * h + SIGNATURE_BYTES * k;
  if (h === 0 || k === 0 || proof.length < end) return undefined;
  const part = (start: number, size: number) => (_: unknown, i: number) => proof.slice(start + size * i, start + size * (i + 1));
  return {
    handles: Array.from({ length: h }, part(2, 32)).map(toHex),
    signatures: Array.from({ length: k }, part(2 + 32 * h, SIGNATURE_BYTES)),
    extraData: proof.slice(end),
  };
}

/**
 * One proof with the signatures of several coprocessors over the same statement. Throws an {@link InputError} if they are not
 * about `handles`, or do not carry the same extra data.
 */
export function mergeInputProofs(proofs: readonly Uint8Array[], handles: readonly Hex[]): Uint8Array {
  const parsed = proofs.map((proof) => {
    const one = parseInputProof(proof);
    if (!one || one.handles.join() !== handles.join()) {
      throw new InputError("ForeignProof", "a coprocessor answered with a proof of something else");
    }
    return one;
  });
  const extraData = parsed[0]?.extraData ?? new Uint8Array();
  if (!parsed.every((one) => equal(one.extraData, extraData))) {
    throw new InputError("ForeignProof", "the coprocessors' proofs carry different extra data");
  }
  const signatures = parsed.flatMap((one) => one.signatures);
  if (signatures.length > 255) throw new InputError("ForeignProof", "more signatures than a proof can carry");
  return concat(Uint8Array.of(handles.length, signatures.length), ...handles.map((handle) => fromHex(handle, 32)), ...signatures, extraData);
}
