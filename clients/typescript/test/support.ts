/** Parties for tests: they share values, seal and sign as docs/spec/user-decryption.md says. */

import { ml_kem512, ml_kem768 } from "@noble/post-quantum/ml-kem.js";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { keccak_256 } from "@noble/hashes/sha3.js";
import { type Hex, ascii, concat, fromHex, integer, toHex } from "../src/bytes.js";
import { associatedData, type Binding, envelopeCipher, type Header, packedElements, payloadHeader } from "../src/envelope.js";
import { checkHandles, type FheType } from "../src/handle.js";
import { KEMS, kemOfPublicKey, type Kem } from "../src/kem.js";
import { type DecryptionDomain, KeyPair, type Parties, type UserRequest, type UserResponse, permitHash, permitTypedData, responseHash } from "../src/index.js";
import { type Element, Ring, WORD_MASK } from "../src/ring.js";
import { degreeFor } from "../src/codec.js";
import { hashTypedData } from "viem";

/** A small, seeded generator: tests only. */
export function random(seed: number): () => bigint {
  let state = BigInt(seed) | 1n;
  const step = () => {
    state ^= (state << 13n) & 0xffffffffffffffffn;
    state ^= state >> 7n;
    state ^= (state << 17n) & 0xffffffffffffffffn;
    return state;
  };
  return () => (step() << 64n) | step();
}

export function address(key: Uint8Array): Hex {
  return toHex(keccak_256(secp256k1.getPublicKey(key, false).subarray(1)).subarray(12));
}

export function sign(key: Uint8Array, digest: Hex): Hex {
  const signature = secp256k1.sign(fromHex(digest), key, { prehash: false, format: "recovered" });
  return toHex(concat(signature.subarray(1), Uint8Array.of(27 + signature[0]!)));
}

export const word = (seed: string): Hex => toHex(keccak_256(ascii(seed)));
export const CHAIN = 31337n;
export const domain: DecryptionDomain = { chainId: 1n, verifyingContract: `0x${"22".repeat(20)}` };

export function handle(seed: number, type: number): Hex {
  return toHex(concat(new Uint8Array(21).fill(seed), Uint8Array.of(0xff), integer(CHAIN, 8), Uint8Array.of(type, 0)));
}

/** Shares of one party each: value i is secrets[i], packed as in the opening. */
export function share(secrets: readonly bigint[], n: number, t: number, next: () => bigint): bigint[][] {
  const ring = new Ring(degreeFor(n));
  const d = ring.degree;
  const columns = Math.ceil(secrets.length / d);
  const vectors = Array.from({ length: n }, () => new Array<bigint>(columns * d).fill(0n));
  for (let column = 0; column < columns; column++) {
    const packed: Element = Array.from({ length: d }, (_, j) => secrets[column * d + j] ?? 0n);
    const polynomial = [packed, ...Array.from({ length: t }, () => Array.from({ length: d }, next))];
    for (let party = 1; party <= n; party++) {
      const at = ring.lift(party);
      const value = polynomial.reduceRight<Element>((sum, c) => ring.add(ring.multiply(sum, at), c), ring.lift(0));
      value.forEach((word, c) => (vectors[party - 1]![c * columns + column] = word));
    }
  }
  return vectors;
}

/** Flooded blocks of a value. */
export function blocks(type: FheType, value: bigint, bound: bigint, next: () => bigint): bigint[] {
  return Array.from({ length: type.blocks }, (_, i) => {
    const m = (value >> BigInt(4 * i)) & 15n;
    return ((m << 123n) + (next() % (2n * bound + 1n)) - bound) & WORD_MASK;
  });
}

export function seal(publicKey: Uint8Array, header: Header, binding: Binding, payload: Uint8Array): Uint8Array {
  const kem = kemOfPublicKey(publicKey) as Kem;
  const engine = kem === "ML-KEM-768" ? ml_kem768 : ml_kem512;
  const { cipherText, sharedSecret } = engine.encapsulate(publicKey);
  const sealed = envelopeCipher(sharedSecret, publicKey, cipherText, associatedData(kem, header, binding)).encrypt(payload);
  return concat(
    ascii("KMSE"),
    Uint8Array.of(1, KEMS[kem].id, header.party),
    header.contextId,
    header.epochId,
    header.keyId,
    header.user,
    header.permitHash,
    integer(header.digests.length, 2),
    ...header.digests,
    cipherText,
    sealed,
  );
}

/** A committee, a request and what its parties answer. */
export class Scene {
  readonly signingKeys: Uint8Array[];
  readonly parties: Parties;
  readonly request: UserRequest;
  readonly types: FheType[];
  readonly shares: bigint[][];
  readonly keys: KeyPair;

  constructor(
    readonly n: number,
    readonly t: number,
    values: readonly { type: number; value: bigint }[],
    bound: bigint,
    options: { kem?: Kem; seed?: number; delegator?: Hex } = {},
  ) {
    const next = random(options.seed ?? 7);
    this.signingKeys = Array.from({ length: n }, (_, i) => new Uint8Array(32).fill(i + 1));
    this.parties = { contextId: word("context"), signers: this.signingKeys.map(address), t };
    this.keys = KeyPair.fromSeed(new Uint8Array(64).fill(options.seed ?? 7), options.kem);
    const userKey = new Uint8Array(32).fill(99);
    const contract: Hex = `0x${"33".repeat(20)}`;
    const permit = {
      user: address(userKey),
      ...(options.delegator !== undefined && { delegator: options.delegator }),
      publicKey: toHex(this.keys.publicKey),
      contracts: [contract],
      start: 1_700_000_000n,
      days: 10,
      extraData: `0x01${word("context").slice(2)}` as Hex,
    };
    const data = permitTypedData(permit, CHAIN, domain);
    const digest = data.primaryType === "UserDecryptRequestVerification" ? hashTypedData(data) : hashTypedData(data);
    this.request = {
      hostChainId: CHAIN,
      permit,
      signature: sign(userKey, digest),
      pairs: values.map(({ type }, i) => ({ handle: handle(i + 1, type), contract })),
    };
    this.types = checkHandles(this.request.pairs.map((p) => p.handle), CHAIN) as FheType[];
    const secrets = values.flatMap(({ value }, i) => blocks(this.types[i]!, value, bound, next));
    this.shares = share(secrets, n, t, next);
  }

  header(party: number): Header {
    return {
      party,
      contextId: fromHex(this.parties.contextId),
      epochId: fromHex(word("epoch")),
      keyId: fromHex(word("key")),
      user: fromHex(this.request.permit.user),
      permitHash: fromHex(permitHash(this.request.permit, CHAIN, domain)),
      digests: this.request.pairs.map((_, i) => fromHex(word(`digest ${i}`))),
    };
  }

  binding(): Binding {
    return {
      publicKey: this.keys.publicKey,
      hostChainId: CHAIN,
      domainChainId: domain.chainId,
      verifyingContract: fromHex(domain.verifyingContract),
      extraData: fromHex(this.request.permit.extraData),
      handles: this.request.pairs.map((p) => fromHex(p.handle)),
      types: this.types,
    };
  }

  payload(words: readonly bigint[]): Uint8Array {
    const degree = degreeFor(this.n);
    if (words.length !== packedElements(degree, this.types) * degree) throw new RangeError("words");
    const le = (w: bigint) => integer(w, 16).reverse();
    return concat(payloadHeader(degree, this.types), ...words.map(le));
  }

  signed(party: number, share: Uint8Array, extraData: Hex = this.request.permit.extraData): UserResponse {
    const handles = this.request.pairs.map((p) => p.handle);
    const digest = responseHash(domain, this.request.permit.publicKey, handles, toHex(share), extraData);
    return { share: toHex(share), signature: sign(this.signingKeys[party - 1]!, digest), extraData };
  }

  response(party: number, change: { words?: readonly bigint[]; header?: Partial<Header>; payload?: Uint8Array } = {}): UserResponse {
    const header = { ...this.header(party), ...change.header };
    const payload = change.payload ?? this.payload(change.words ?? this.shares[party - 1]!);
    return this.signed(party, seal(this.keys.publicKey, header, this.binding(), payload));
  }

  /** A share that is signed but wrong in some columns. */
  wrongWords(party: number, next: () => bigint): bigint[] {
    const words = [...this.shares[party - 1]!];
    words[0] = words[0]! ^ 1n;
    for (let i = 1; i < words.length; i++) {
      if (next() & 1n) words[i] = (words[i]! + (next() << BigInt(next() % 128n))) & WORD_MASK;
    }
    return words;
  }
}
