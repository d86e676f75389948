/** What becomes of responses, and what they add up to. Parties are named by their index, from 1. */

import type { Hex } from "./bytes.js";
import type { FheTypeName } from "./handle.js";

/** Responses that can be put together. Context and handles are the request's. */
export interface Group {
  /** Epoch. */
  readonly epoch: Hex;
  /** FHE key. */
  readonly key: Hex;
  /** Committed digests of the ciphertexts, in the order of the handles. */
  readonly digests: readonly Hex[];
}

/** Why a response is not authentic. Nobody is blamed: anybody may have made it. */
export type RejectReason =
  | "Malformed"
  | "TooLarge"
  | "SignatureLength"
  | "BadV"
  | "HighS"
  | "Unrecoverable"
  | "ExtraData"
  | "Stranger";

/** What speaks against a party, under its own signature. */
export type Fault =
  | EnvelopeFault
  | "OtherKem"
  | "Sealed"
  | "PayloadLength"
  | "PayloadHeader"
  | "Index"
  | "ExtraData"
  | "Conflicting"
  | "Share";

/** Why bytes are no envelope of a request. */
export type EnvelopeFault = "TooLarge" | "Truncated" | "Magic" | "Version" | "Kem" | "Party" | "Handles" | "Digests";

/** A party and what speaks against it. */
export interface Wrong {
  readonly party: number;
  readonly fault: Fault;
}

/** An authentic response that does not belong to the others: of another context, to another permit, or of another group. */
export type Foreign =
  | { readonly kind: "Context"; readonly context: Hex }
  | { readonly kind: "Permit"; readonly permit: Hex }
  | { readonly kind: "Group"; readonly group: Group };

/** What became of a response. */
export type Added =
  | { readonly kind: "share"; readonly party: number }
  | { readonly kind: "repeated"; readonly party: number }
  | { readonly kind: "foreign"; readonly party: number; readonly foreign: Foreign }
  | { readonly kind: "wrong"; readonly party: number; readonly fault: Fault }
  | { readonly kind: "ignored"; readonly party: number }
  | { readonly kind: "rejected"; readonly reason: RejectReason };

/** Who has answered what. Each party of the committee is in exactly one of the four lists, which are ascending. */
export interface Progress {
  /** Agreeing shares that are needed: 2t + 1, and one more for each wrong one among them. */
  readonly needed: number;
  /** Parties with a share in the best group that nothing speaks against. */
  readonly shares: readonly number[];
  /** Wrong parties. */
  readonly wrong: readonly Wrong[];
  /** Parties whose responses belong elsewhere. */
  readonly elsewhere: readonly { readonly party: number; readonly foreign: Foreign }[];
  /** Parties without an authentic response. Not wrong. */
  readonly missing: readonly number[];
}

/** A decrypted value. */
export interface ClearValue {
  /** Handle. */
  readonly handle: Hex;
  /** Its type. */
  readonly type: FheTypeName;
  /** A boolean, an address in lower case, or an integer. */
  readonly value: boolean | bigint | Hex;
}

/** The values of a user decryption. */
export interface Reconstruction {
  /** In the order of the request. */
  readonly values: readonly ClearValue[];
  /** The epoch, key and ciphertexts that they are of. */
  readonly group: Group;
  /** At least 2t + 1 parties whose shares agree. */
  readonly agreeing: readonly number[];
  /** Who has answered what. */
  readonly progress: Progress;
}
