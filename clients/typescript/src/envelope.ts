/** Envelope and payload of a share (docs/spec/user-decryption.md). */

import { gcm } from "@noble/ciphers/aes.js";
import { hkdf } from "@noble/hashes/hkdf.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { ascii, concat, equal, integer } from "./bytes.js";
import { type FheType, MAX_HANDLES } from "./handle.js";
import { KEMS, type Kem, type KeyPair } from "./kem.js";
import type { EnvelopeFault, Fault } from "./outcome.js";
import type { ShareVector } from "./codec.js";

/** Larger envelopes are refused unread. */
export const MAX_ENVELOPE_BYTES = 65_536;
const TAG_BYTES = 16;
const WORD_BYTES = 16;

/** What an envelope says of itself in the open, under the party's signature. */
export interface Header {
  readonly party: number;
  readonly contextId: Uint8Array;
  readonly epochId: Uint8Array;
  readonly keyId: Uint8Array;
  readonly user: Uint8Array;
  readonly permitHash: Uint8Array;
  readonly digests: readonly Uint8Array[];
}

/** A parsed envelope. */
export interface Envelope {
  readonly header: Header;
  readonly kem: Kem;
  readonly ciphertext: Uint8Array;
  readonly sealed: Uint8Array;
}

/** What an envelope is bound to besides its header. */
export interface Binding {
  readonly publicKey: Uint8Array;
  readonly hostChainId: bigint;
  readonly domainChainId: bigint;
  readonly verifyingContract: Uint8Array;
  readonly extraData: Uint8Array;
  readonly handles: readonly Uint8Array[];
  readonly types: readonly FheType[];
}

/** Reads the header of an envelope. */
export function parseEnvelope(bytes: Uint8Array): Envelope | { fault: EnvelopeFault } {
  if (bytes.length > MAX_ENVELOPE_BYTES) return { fault: "TooLarge" };
  let at = 0;
  const take = (count: number): Uint8Array => {
    if (at + count > bytes.length) throw truncated;
    at += count;
    return bytes.slice(at - count, at);
  };
  try {
    if (!equal(take(4), ascii("KMSE"))) return { fault: "Magic" };
    if (take(1)[0] !== 1) return { fault: "Version" };
    const id = take(1)[0]!;
    const kem = (Object.keys(KEMS) as Kem[]).find((k) => KEMS[k].id === id);
    if (!kem) return { fault: "Kem" };
    const party = take(1)[0]!;
    if (party === 0 || party > 31) return { fault: "Party" };
    const [contextId, epochId, keyId, user, permitHash] = [take(32), take(32), take(32), take(20), take(32)];
    const [high, low] = take(2);
    const count = (high! << 8) | low!;
    if (count === 0 || count > MAX_HANDLES) return { fault: "Handles" };
    const all = take(32 * count);
    const digests = Array.from({ length: count }, (_, i) => all.slice(32 * i, 32 * i + 32));
    const ciphertext = take(KEMS[kem].ciphertextBytes);
    const sealed = bytes.slice(at);
    if (sealed.length < TAG_BYTES) return { fault: "Truncated" };
    return { header: { party, contextId, epochId, keyId, user, permitHash, digests }, kem, ciphertext, sealed };
  } catch (error) {
    if (error === truncated) return { fault: "Truncated" };
    throw error;
  }
}
const truncated = new Error("truncated");

/** The associated data of an envelope. */
export function associatedData(kem: Kem, header: Header, binding: Binding): Uint8Array {
  return concat(
    ascii("KMS-USER-AAD-1"),
    integer(KEMS[kem].id, 1),
    integer(header.party, 1),
    header.contextId,
    header.epochId,
    header.keyId,
    header.user,
    header.permitHash,
    integer(binding.hostChainId, 8),
    integer(binding.domainChainId, 8),
    binding.verifyingContract,
    sha256(binding.publicKey),
    integer(binding.extraData.length, 1),
    binding.extraData,
    integer(binding.handles.length, 2),
    ...binding.handles.flatMap((handle, i) => [handle, header.digests[i]!, integer(binding.types[i]!.blocks, 2)]),
  );
}

/** AES-256-GCM under the key of an envelope; every envelope has a key of its own, so the nonce is zero. */
export function envelopeCipher(secret: Uint8Array, publicKey: Uint8Array, ciphertext: Uint8Array, aad: Uint8Array) {
  const info = concat(ascii("KMS-USER-KEY-1"), sha256(publicKey), ciphertext);
  return gcm(hkdf(sha256, secret, undefined, info, 32), new Uint8Array(12), aad);
}

/** Elements that the blocks of these types need. */
export function packedElements(degree: number, types: readonly FheType[]): number {
  return Math.ceil(types.reduce((sum, type) => sum + type.blocks, 0) / degree);
}

/** Bytes of a payload before its words. */
export function payloadHeader(degree: number, types: readonly FheType[]): Uint8Array {
  return concat(ascii("KMSU"), integer(1, 1), integer(degree, 1), integer(types.length, 2), ...types.map((t) => integer(t.blocks, 2)));
}

/** The words of a payload of a request. */
export function parsePayload(bytes: Uint8Array, degree: number, types: readonly FheType[]): ShareVector | { fault: Fault } {
  const header = payloadHeader(degree, types);
  const words = packedElements(degree, types) * degree;
  if (bytes.length !== header.length + words * WORD_BYTES) return { fault: "PayloadLength" };
  if (!equal(bytes.subarray(0, header.length), header)) return { fault: "PayloadHeader" };
  const view = new DataView(bytes.buffer, bytes.byteOffset + header.length);
  return Array.from(
    { length: words },
    (_, i) => view.getBigUint64(WORD_BYTES * i, true) | (view.getBigUint64(WORD_BYTES * i + 8, true) << 64n),
  );
}

/** Opens an envelope whose signature and header are right: what fails now is its signer's fault. */
export function openEnvelope(
  keys: KeyPair,
  envelope: Envelope,
  binding: Binding,
  degree: number,
): ShareVector | { fault: Fault } {
  if (envelope.kem !== keys.kem) return { fault: "OtherKem" };
  if (envelope.header.digests.length !== binding.handles.length) return { fault: "Digests" };
  const aad = associatedData(envelope.kem, envelope.header, binding);
  const secret = keys.decapsulate(envelope.ciphertext);
  let payload: Uint8Array;
  try {
    payload = envelopeCipher(secret, binding.publicKey, envelope.ciphertext, aad).decrypt(envelope.sealed);
  } catch {
    return { fault: "Sealed" };
  } finally {
    secret.fill(0);
  }
  const words = parsePayload(payload, degree, binding.types);
  payload.fill(0);
  return words;
}
