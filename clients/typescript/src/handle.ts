/** Handles and the types of encrypted values (docs/spec/handle.md). */

import { type Hex, tryFromHex } from "./bytes.js";

/** Name of a type, as Solidity spells the cleartext. */
export type FheTypeName = "bool" | "uint8" | "uint16" | "uint32" | "uint64" | "uint128" | "address" | "uint256";

/** A type of encrypted values. */
export interface FheType {
  /** Type byte of a handle. */
  readonly id: number;
  /** Name. */
  readonly name: FheTypeName;
  /** Bits that count in the limit of a request. */
  readonly bits: number;
  /** Bits that a value can have. */
  readonly valueBits: number;
  /** Squashed blocks of four bits. */
  readonly blocks: number;
}

const table: [number, FheTypeName, number, number][] = [
  [0, "bool", 2, 1],
  [2, "uint8", 8, 8],
  [3, "uint16", 16, 16],
  [4, "uint32", 32, 32],
  [5, "uint64", 64, 64],
  [6, "uint128", 128, 128],
  [7, "address", 160, 160],
  [8, "uint256", 256, 256],
];

/** Every supported type by its type byte. */
export const FHE_TYPES: ReadonlyMap<number, FheType> = new Map(
  table.map(([id, name, bits, valueBits]) => [id, { id, name, bits, valueBits, blocks: Math.ceil(bits / 4) }]),
);

/** Bits that one request may ask for. */
export const MAX_REQUEST_BITS = 2048;
/** Handles that one request may name. */
export const MAX_HANDLES = 1024;

/** Why a list of handles can't be one request: the label of docs/spec/handle.md. */
export type HandleFault =
  | "EmptyHandles"
  | "TooManyBits"
  | "UnknownVersion"
  | "UnknownType"
  | "UnsupportedType"
  | "ForeignChain"
  | "MalformedHandle";

/** Checks the handles of one request; the types in its order, or the first fault. */
export function checkHandles(handles: readonly Hex[], chainId: bigint): FheType[] | { fault: HandleFault; handle?: Hex } {
  if (handles.length === 0) return { fault: "EmptyHandles" };
  if (handles.length > MAX_HANDLES) return { fault: "TooManyBits" };
  const types: FheType[] = [];
  let bits = 0;
  for (const handle of handles) {
    const bytes = tryFromHex(handle, 32);
    if (!bytes) return { fault: "MalformedHandle", handle };
    if (bytes[31] !== 0) return { fault: "UnknownVersion", handle };
    const id = bytes[30]!;
    if (id > 83) return { fault: "UnknownType", handle };
    const type = FHE_TYPES.get(id);
    if (!type) return { fault: "UnsupportedType", handle };
    const chain = bytes.slice(22, 30).reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);
    if (chain !== chainId) return { fault: "ForeignChain", handle };
    bits += type.bits;
    if (bits > MAX_REQUEST_BITS) return { fault: "TooManyBits" };
    types.push(type);
  }
  return types;
}
