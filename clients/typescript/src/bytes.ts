/** Bytes and hex. */

/** Hex with 0x, lower case when this package makes it. */
export type Hex = `0x${string}`;

const PAIRS = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** Hex of bytes. */
export function toHex(bytes: Uint8Array): Hex {
  let text = "0x";
  for (const byte of bytes) text += PAIRS[byte]!;
  return text as Hex;
}

/** Value of a hex digit, −1 for other characters. */
function digit(code: number): number {
  if (code >= 48 && code <= 57) return code - 48;
  if (code >= 97 && code <= 102) return code - 87;
  return code >= 65 && code <= 70 ? code - 55 : -1;
}

/** Bytes of hex, with 0x or without; `undefined` if it is no hex, or not of `length` bytes. */
export function tryFromHex(text: unknown, length?: number): Uint8Array | undefined {
  if (typeof text !== "string") return undefined;
  const digits = text.startsWith("0x") ? text.slice(2) : text;
  if (digits.length % 2 !== 0 || (length !== undefined && digits.length !== 2 * length)) return undefined;
  const bytes = new Uint8Array(digits.length / 2);
  for (let i = 0; i < bytes.length; i++) {
    const [high, low] = [digit(digits.charCodeAt(2 * i)), digit(digits.charCodeAt(2 * i + 1))];
    if (high < 0 || low < 0) return undefined;
    bytes[i] = (high << 4) | low;
  }
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
