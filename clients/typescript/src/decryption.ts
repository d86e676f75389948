/** From the parties' responses to values. */

import { type Hex, equal, fromHex, toHex, tryFromHex } from "./bytes.js";
import { Codec, type Decoded, type ShareVector } from "./codec.js";
import { type Binding, MAX_ENVELOPE_BYTES, openEnvelope, parseEnvelope } from "./envelope.js";
import { RefusedError, RequestError, UndecidedError } from "./errors.js";
import type { FheType } from "./handle.js";
import type { KeyPair } from "./kem.js";
import type { Added, ClearValue, Fault, Foreign, Group, Progress, Reconstruction, RejectReason, Wrong } from "./outcome.js";
import {
  type DecryptionDomain,
  type ExtraData,
  type UserRequest,
  canonicalExtraData,
  checkRequest,
  parseExtraData,
  permitHash,
  responseHash,
} from "./permit.js";
import { decodeBlocks, floodBound } from "./rounding.js";
import { recoverSigner } from "./signature.js";

/** The committee that is asked. Read it from the chain, never from a relayer. */
export interface Parties {
  readonly contextId: Hex;
  /** Signers; party i is at place i − 1. */
  readonly signers: readonly Hex[];
  /** Parties that may be malicious. */
  readonly t: number;
}

/** What a party answered, as it came. */
export interface UserResponse {
  /** The envelope. */
  readonly share: Hex;
  /** The party's signature over `UserDecryptResponseVerification`. */
  readonly signature: Hex;
  /** Extra data of the response: that of the permit. */
  readonly extraData: Hex;
}

/** Groups in which one party may stand: an honest one has one per epoch, key and view of the chain. */
const MAX_GROUPS_OF_A_PARTY = 8;

interface Held {
  readonly group: Group;
  readonly shares: Map<number, ShareVector>;
}

/** What {@link UserDecryption} needs. */
export interface DecryptionOptions {
  readonly parties: Parties;
  readonly domain: DecryptionDomain;
  readonly request: UserRequest;
  /** The key pair whose public key stands in the permit. */
  readonly keys: KeyPair;
}

/**
 * One user decryption at the client. Feed it responses with {@link add} in any order, then {@link reconstruct}; with r wrong
 * responses 2t + 1 + r are needed.
 */
export class UserDecryption {
  readonly request: UserRequest;
  readonly parties: Parties;
  readonly domain: DecryptionDomain;
  private readonly keys: KeyPair;
  private readonly codec: Codec;
  private readonly bound: bigint;
  private readonly types: readonly FheType[];
  private readonly handles: readonly Hex[];
  private readonly signers: readonly string[];
  private readonly contextId: Hex;
  private readonly permitHash: Uint8Array;
  private readonly user: Uint8Array;
  private readonly publicKey: Hex;
  private readonly named: ExtraData;
  private readonly binding: Binding;
  private readonly groups = new Map<string, Held>();
  private readonly wrong = new Map<number, Fault>();
  private readonly foreign = new Map<number, Foreign>();

  /** Throws a {@link RequestError} if the request breaks a rule or does not fit the committee or the key pair. */
  constructor({ parties, domain, request, keys }: DecryptionOptions) {
    this.types = checkRequest(request);
    this.request = request;
    this.parties = parties;
    this.domain = domain;
    this.keys = keys;
    this.publicKey = request.permit.publicKey.toLowerCase() as Hex;
    if (toHex(keys.publicKey) !== this.publicKey) throw new RequestError("OtherKey", "the permit is for another key pair");
    this.signers = parties.signers.map((signer) => signer.toLowerCase());
    if (new Set(this.signers).size !== this.signers.length) throw new RequestError("RepeatedSigner", "a signer stands twice in the committee");
    try {
      this.bound = floodBound(parties.signers.length, parties.t);
      this.codec = new Codec(parties.signers.length, parties.t);
    } catch (cause) {
      throw new RequestError("Committee", String((cause as Error).message), { cause });
    }
    this.named = parseExtraData(request.permit.extraData)!;
    this.contextId = parties.contextId.toLowerCase() as Hex;
    if (this.named.context !== undefined && this.named.context !== this.contextId) {
      throw new RequestError("Context", `the permit names context ${this.named.context}, the committee is ${this.contextId}`);
    }
    this.handles = request.pairs.map((pair) => pair.handle.toLowerCase() as Hex);
    this.permitHash = fromHex(permitHash(request.permit, request.hostChainId, domain));
    this.user = fromHex(request.permit.user);
    this.binding = {
      publicKey: keys.publicKey,
      hostChainId: request.hostChainId,
      domainChainId: domain.chainId,
      verifyingContract: fromHex(domain.verifyingContract),
      extraData: fromHex(request.permit.extraData),
      handles: this.handles.map((handle) => fromHex(handle)),
      types: this.types,
    };
  }

  /** Takes one response. Order and repetition don't matter. Never throws on what came over a wire. */
  add(response: UserResponse): Added {
    const share = tryFromHex(response.share);
    if (!share) return { kind: "rejected", reason: "Malformed" };
    const party = this.authenticate(response, share);
    if (typeof party === "string") return { kind: "rejected", reason: party };
    const opened = this.open(party, share);
    if ("foreign" in opened) {
      if (!this.foreign.has(party)) this.foreign.set(party, opened.foreign);
      return { kind: "foreign", party, foreign: opened.foreign };
    }
    if ("fault" in opened) return this.blame(party, opened.fault);
    return this.insert(party, opened.group, opened.share);
  }

  /** The party that signed a response to this request, or why nobody of the context did. */
  private authenticate(response: UserResponse, share: Uint8Array): number | RejectReason {
    if (share.length > MAX_ENVELOPE_BYTES) return "TooLarge";
    const signature = tryFromHex(response.signature);
    if (!signature) return "Malformed";
    if (signature.length !== 65) return "SignatureLength";
    if (!parseExtraData(response.extraData)) return "ExtraData";
    const extraData = canonicalExtraData(this.request.permit.extraData);
    if (canonicalExtraData(response.extraData) !== extraData) return "ExtraData";
    const digest = responseHash(this.domain, this.publicKey, this.handles, toHex(share), extraData);
    const signer = recoverSigner(fromHex(digest), signature);
    if (typeof signer !== "string") return signer.fault;
    const place = this.signers.indexOf(signer);
    return place < 0 ? "Stranger" : place + 1;
  }

  /** Checks the content of an authentic response and opens it. */
  private open(party: number, bytes: Uint8Array): { group: Group; share: ShareVector } | { fault: Fault } | { foreign: Foreign } {
    const envelope = parseEnvelope(bytes);
    if ("fault" in envelope) return envelope;
    const { header } = envelope;
    if (header.party !== party) return { fault: "Index" };
    const [context, epoch] = [toHex(header.contextId), toHex(header.epochId)];
    if ((this.named.context ?? context) !== context || (this.named.epoch ?? epoch) !== epoch) return { fault: "ExtraData" };
    if (context !== this.contextId) return { foreign: { kind: "Context", context } };
    if (!equal(header.user, this.user) || !equal(header.permitHash, this.permitHash)) {
      return { foreign: { kind: "Permit", permit: toHex(header.permitHash) } };
    }
    const share = openEnvelope(this.keys, envelope, this.binding, this.codec.ring.degree);
    if ("fault" in share) return share;
    return { group: { epoch, key: toHex(header.keyId), digests: header.digests.map(toHex) }, share };
  }

  private blame(party: number, fault: Fault): Added {
    if (!this.wrong.has(party)) this.wrong.set(party, fault);
    return { kind: "wrong", party, fault };
  }

  private insert(party: number, group: Group, share: ShareVector): Added {
    const id = [group.epoch, group.key, ...group.digests].join();
    let held = this.groups.get(id);
    if (!held) {
      const known = [...this.groups.values()].filter((other) => other.shares.has(party)).length;
      if (known >= MAX_GROUPS_OF_A_PARTY) return { kind: "ignored", party };
      held = { group, shares: new Map() };
      this.groups.set(id, held);
    }
    const first = held.shares.get(party);
    if (!first) {
      held.shares.set(party, share);
      return { kind: "share", party };
    }
    if (first.every((word, i) => word === share[i])) return { kind: "repeated", party };
    // Shares are a function of keys and ciphertexts: who signs two different ones lies in one of them.
    return this.blame(party, "Conflicting");
  }

  /** Groups with the most shares first; equal ones in the order of their content. */
  private ranked(): Held[] {
    const entries = [...this.groups].sort(([a, x], [b, y]) => y.shares.size - x.shares.size || (a < b ? -1 : 1));
    return entries.map(([, held]) => held);
  }

  /** Where things stand. */
  progress(): Progress {
    return this.progressOf(this.ranked()[0], []);
  }

  private progressOf(chosen: Held | undefined, culprits: readonly number[]): Progress {
    const wrong = new Map<number, Fault>(this.wrong);
    for (const party of culprits) if (!wrong.has(party)) wrong.set(party, "Share");
    const shares = [...(chosen?.shares.keys() ?? [])].filter((party) => !wrong.has(party));
    const heard = new Set([...shares, ...wrong.keys()]);
    const elsewhere = new Map<number, Foreign>();
    for (const { group, shares: others } of [...this.groups.values()].sort((a, b) => (groupId(a.group) < groupId(b.group) ? -1 : 1))) {
      for (const party of others.keys()) {
        if (!heard.has(party) && !elsewhere.has(party)) elsewhere.set(party, { kind: "Group", group });
      }
    }
    for (const [party, foreign] of this.foreign) {
      if (!heard.has(party) && !elsewhere.has(party)) elsewhere.set(party, foreign);
    }
    const all = Array.from({ length: this.codec.n }, (_, i) => i + 1);
    return {
      needed: this.codec.needed,
      shares: shares.sort((a, b) => a - b),
      wrong: [...wrong].map(([party, fault]): Wrong => ({ party, fault })).sort((a, b) => a.party - b.party),
      elsewhere: [...elsewhere].map(([party, foreign]) => ({ party, foreign })).sort((a, b) => a.party - b.party),
      missing: all.filter((party) => !heard.has(party) && !elsewhere.has(party)),
    };
  }

  /**
   * The values, if the responses so far decide them. Try again after more were added: that can name more wrong parties, but
   * never change a value. Throws {@link UndecidedError} if more responses are needed, {@link RefusedError} if 2t + 1 parties
   * agree on blocks that no honest ciphertext has.
   */
  reconstruct(): Reconstruction {
    for (const held of this.ranked()) {
      const usable = new Map([...held.shares].filter(([party]) => !this.wrong.has(party)));
      const decoded = this.codec.decode(usable);
      if (decoded) return this.round(held, decoded);
    }
    throw new UndecidedError(this.progress());
  }

  private round(held: Held, decoded: Decoded): Reconstruction {
    const progress = this.progressOf(held, decoded.culprits);
    const d = this.codec.ring.degree;
    let at = 0;
    const values = this.types.map((type, i): ClearValue => {
      const blocks = Array.from({ length: type.blocks }, (_, j) => decoded.values[Math.floor((at + j) / d)]![(at + j) % d]!);
      at += type.blocks;
      const result = decodeBlocks(type, blocks, this.bound);
      const handle = this.handles[i]!;
      if ("fault" in result) throw new RefusedError(handle, result.fault, progress);
      return { handle, type: type.name, value: clear(type, result.value) };
    });
    return { values, group: held.group, agreeing: decoded.agreeing, progress };
  }
}

function groupId(group: Group): string {
  return [group.epoch, group.key, ...group.digests].join();
}

function clear(type: FheType, value: bigint): boolean | bigint | Hex {
  if (type.name === "bool") return value === 1n;
  if (type.name === "address") return `0x${value.toString(16).padStart(40, "0")}`;
  return value;
}
