/** Bytes and hex. */

/** Hex with 0x, lower case when this package makes it. */
export type Hex = `0x${string}`;

/** Hex of bytes. */
export function toHex(bytes: Uint8Array): Hex {
  let text = "0x";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text as Hex;
}

/** Bytes of hex, with 0x or without; `undefined` if it is no hex, or not of `length` bytes. */
export function tryFromHex(text: unknown, length?: number): Uint8Array | undefined {
  if (typeof text !== "string") return undefined;
  const digits = text.startsWith("0x") ? text.slice(2) : text;
  if (digits.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(digits)) return undefined;
  if (length !== undefined && digits.length !== 2 * length) return undefined;
  const bytes = new Uint8Array(digits.length / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

/** Bytes of hex. Throws a `TypeError` otherwise. */
export function fromHex(text: string, length?: number): Uint8Array {
  const bytes = tryFromHex(text, length);
  if (!bytes) throw new TypeError(`not hex${length === undefined ? "" : ` of ${length} bytes`}: ${String(text).slice(0, 80)}`);
  return bytes;
}

/** Joins bytes. */
export function concat(...parts: Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** ASCII text as bytes. */
export function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (c) => c.charCodeAt(0));
}

/** A big-endian integer of `length` bytes. */
export function integer(value: bigint | number, length: number): Uint8Array {
  let rest = BigInt(value);
  const out = new Uint8Array(length);
  for (let i = length - 1; i >= 0; i--) {
    out[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  if (rest !== 0n) throw new RangeError(`${value} does not fit ${length} bytes`);
  return out;
}

/** Whether two byte strings are equal. Not for secrets. */
export function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
