/** Permits and requests (docs/spec/user-decryption.md): what a user signs, and every rule about it that needs no chain. */

import { encodeAbiParameters, hashTypedData, keccak256 } from "viem";
import { type Hex, fromHex, tryFromHex } from "./bytes.js";
import { RequestError } from "./errors.js";
import { type FheType, checkHandles } from "./handle.js";
import { kemOfPublicKey } from "./kem.js";

/** Most contracts in a permit. */
export const MAX_CONTRACTS = 10;
/** Longest permit, in days. */
export const MAX_DAYS = 365;
/** Most bytes of a permit's signature: a smart account's may be long. */
export const MAX_SIGNATURE_BYTES = 4096;
const SECONDS_PER_DAY = 86_400n;

/** The canonical decryption domain of a committee: chain and contract under which parties sign. */
export interface DecryptionDomain {
  readonly chainId: bigint;
  readonly verifyingContract: Hex;
}

/** What a user signs to let a key read its handles, or those of a delegator. */
export interface Permit {
  /** Who signs: the user, or the delegate. */
  readonly user: Hex;
  /** Whose handles are read, if not the user's own. */
  readonly delegator?: Hex;
  /** The user's ML-KEM public key. */
  readonly publicKey: Hex;
  /** Contracts whose handles may be read. */
  readonly contracts: readonly Hex[];
  /** First second of validity, block time. */
  readonly start: bigint;
  /** Days of validity. */
  readonly days: number;
  /** Extra data that the responses carry: version 0, 1 or 2. */
  readonly extraData: Hex;
}

/** A handle and the contract that the user names with it. */
export interface HandleContract {
  readonly handle: Hex;
  readonly contract: Hex;
}

/** A user decryption: a signed permit and the handles to read by it. */
export interface UserRequest {
  /** Chain of the handles and of the permit. */
  readonly hostChainId: bigint;
  readonly permit: Permit;
  /** The user's signature over the permit. */
  readonly signature: Hex;
  readonly pairs: readonly HandleContract[];
}

/** Extra data of version 1: names the context. */
export function extraDataOfContext(contextId: Hex): Hex {
  return `0x01${contextId.slice(2).toLowerCase()}`;
}

/** Parsed extra data. */
export interface ExtraData {
  readonly version: number;
  readonly context?: Hex;
  readonly epoch?: Hex;
}

/** Parses extra data; `undefined` if it does not parse. */
export function parseExtraData(text: unknown): ExtraData | undefined {
  const bytes = tryFromHex(text);
  if (!bytes) return undefined;
  if (bytes.length === 0) return { version: 0 };
  const version = bytes[0]!;
  if (version > 3 || bytes.length !== 1 + 32 * version) return undefined;
  const hex = (text as string).replace(/^0x/, "").toLowerCase();
  const word = (i: number): Hex => `0x${hex.slice(2 + 64 * i, 66 + 64 * i)}`;
  return { version, ...(version > 0 && { context: word(0) }), ...(version > 1 && { epoch: word(1) }) };
}

/** Extra data as it is signed in answers: lower case, version 0 empty. */
export function canonicalExtraData(text: string): Hex {
  const hex = text.replace(/^0x/, "").toLowerCase();
  return hex === "00" ? "0x" : `0x${hex}`;
}

/** The parts of a permit; everything but the key and the contracts has a default. */
export interface PermitOptions {
  readonly user: Hex;
  readonly publicKey: Hex;
  readonly contracts: readonly Hex[];
  /** Whose handles are read; absent: the user's own. */
  readonly delegator?: Hex;
  /** Absent: now, less a minute for clocks that differ. */
  readonly start?: bigint;
  /** Absent: 1. */
  readonly days?: number;
  /** Context to name, read from the chain. Absent: the verifier's current one. */
  readonly contextId?: Hex;
}

/** A permit that follows the rules. */
export function createPermit(options: PermitOptions): Permit {
  const permit: Permit = {
    user: options.user,
    ...(options.delegator !== undefined && { delegator: options.delegator }),
    publicKey: options.publicKey,
    contracts: [...options.contracts],
    start: options.start ?? BigInt(Math.floor(Date.now() / 1000) - 60),
    days: options.days ?? 1,
    extraData: options.contextId === undefined ? "0x00" : extraDataOfContext(options.contextId),
  };
  checkPermit(permit);
  return permit;
}

const same = (a: string, b: string) => a.toLowerCase() === b.toLowerCase();

/** The rules that depend on nothing but the permit. Throws a {@link RequestError} with the label of the first broken one. */
export function checkPermit(permit: Permit): void {
  const fail = (code: string, message: string): never => {
    throw new RequestError(code, message);
  };
  const key = tryFromHex(permit.publicKey);
  const kem = key && kemOfPublicKey(key);
  if (!kem || typeof kem !== "string") fail("PublicKey", "no ML-KEM public key");
  const addresses = [permit.user, ...permit.contracts, ...(permit.delegator === undefined ? [] : [permit.delegator])];
  for (const address of addresses) if (!tryFromHex(address, 20)) fail("MalformedAddress", `no address: ${address}`);
  const { contracts, delegator, user } = permit;
  if (contracts.length === 0 || contracts.length > MAX_CONTRACTS) {
    fail("ContractCount", `a permit names 1 to ${MAX_CONTRACTS} contracts, not ${contracts.length}`);
  }
  if (contracts.some((c) => same(c, user))) fail("UserInContracts", "the user stands in the list of contracts");
  if (delegator !== undefined) {
    if (contracts.some((c) => same(c, delegator))) fail("DelegatorInContracts", "the delegator stands in the list of contracts");
    if (same(delegator, user)) fail("OwnDelegate", "nobody is its own delegate");
  }
  if (!Number.isInteger(permit.days) || permit.days < 1 || permit.days > MAX_DAYS) {
    fail("Days", `a permit is valid for 1 to ${MAX_DAYS} days, not ${permit.days}`);
  }
  if (permit.start < 0n || permitEnd(permit) >= 1n << 64n) fail("Start", `the permit starts at ${permit.start}, which is no time`);
  const extra = parseExtraData(permit.extraData);
  if (!extra) {
    const bytes = tryFromHex(permit.extraData);
    const unknown = bytes !== undefined && bytes.length > 0 && bytes[0]! > 3;
    fail(unknown ? "UnknownExtraDataVersion" : "InvalidExtraDataLength", "the extra data does not parse");
  } else if (extra.version === 3) fail("BoundToRequest", "the extra data binds to a request, which a permit does not");
}

/** Last second of validity. */
export function permitEnd(permit: Permit): bigint {
  return permit.start + BigInt(permit.days) * SECONDS_PER_DAY;
}

/** Whether the permit is valid at block time `now`; both bounds are. */
export function permitTimeFault(permit: Permit, now: bigint): "NotYetValid" | "Expired" | undefined {
  if (now < permit.start) return "NotYetValid";
  return now > permitEnd(permit) ? "Expired" : undefined;
}

const bytes = <N extends string>(name: N) => ({ name, type: "bytes" }) as const;
const uint = <N extends string>(name: N) => ({ name, type: "uint256" }) as const;
const contractAddresses = { name: "contractAddresses", type: "address[]" } as const;
const permitTypes = {
  UserDecryptRequestVerification: [
    bytes("publicKey"),
    contractAddresses,
    uint("startTimestamp"),
    uint("durationDays"),
    bytes("extraData"),
  ],
} as const;
const delegatedTypes = {
  DelegatedUserDecryptRequestVerification: [
    bytes("publicKey"),
    contractAddresses,
    { name: "delegatorAddress", type: "address" },
    uint("startTimestamp"),
    uint("durationDays"),
    bytes("extraData"),
  ],
} as const;
const responseTypes = {
  UserDecryptResponseVerification: [
    bytes("publicKey"),
    { name: "ctHandles", type: "bytes32[]" },
    bytes("userDecryptedShare"),
    bytes("extraData"),
  ],
} as const;

const lower = (text: string): Hex => text.toLowerCase() as Hex;

function eip712Domain(chainId: bigint, verifyingContract: Hex) {
  // A number where it is exact: not every wallet reads a decimal text.
  const id = chainId <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(chainId) : chainId;
  return { name: "Decryption", version: "1", chainId: id, verifyingContract: lower(verifyingContract) } as const;
}

/** The typed data that a wallet signs (`walletClient.signTypedData`, `eth_signTypedData_v4`). */
export function permitTypedData(permit: Permit, hostChainId: bigint, domain: DecryptionDomain) {
  const common = {
    publicKey: lower(permit.publicKey),
    contractAddresses: permit.contracts.map(lower),
    startTimestamp: permit.start,
    durationDays: BigInt(permit.days),
    extraData: lower(permit.extraData),
  };
  const of = eip712Domain(hostChainId, domain.verifyingContract);
  return permit.delegator === undefined
    ? ({ domain: of, types: permitTypes, primaryType: "UserDecryptRequestVerification", message: common } as const)
    : ({
        domain: of,
        types: delegatedTypes,
        primaryType: "DelegatedUserDecryptRequestVerification",
        message: { ...common, delegatorAddress: lower(permit.delegator) },
      } as const);
}

/** EIP-712 digest of a permit. */
export function permitHash(permit: Permit, hostChainId: bigint, domain: DecryptionDomain): Hex {
  const data = permitTypedData(permit, hostChainId, domain);
  // One call per primary type, so that each is typed.
  return data.primaryType === "UserDecryptRequestVerification" ? hashTypedData(data) : hashTypedData(data);
}

/** EIP-712 digest of a party's response. `extraData` may be as given: 0x00 is signed as empty. */
export function responseHash(
  domain: DecryptionDomain,
  publicKey: Hex,
  handles: readonly Hex[],
  share: Hex,
  extraData: Hex,
): Hex {
  return hashTypedData({
    domain: eip712Domain(domain.chainId, domain.verifyingContract),
    types: responseTypes,
    primaryType: "UserDecryptResponseVerification",
    message: {
      publicKey,
      ctHandles: handles,
      userDecryptedShare: share,
      extraData: canonicalExtraData(extraData),
    },
  });
}

/** All rules that need neither chain nor clock. Throws a {@link RequestError}; returns the types of the handles. */
export function checkRequest(request: UserRequest): FheType[] {
  checkPermit(request.permit);
  const types = checkHandles(request.pairs.map((pair) => pair.handle), request.hostChainId);
  if (!Array.isArray(types)) throw new RequestError(types.fault, `handle ${types.handle ?? "list"}: ${types.fault}`);
  const seen = new Set<string>();
  for (const { handle, contract } of request.pairs) {
    if (seen.has(handle.toLowerCase())) throw new RequestError("RepeatedHandle", `handle ${handle} stands twice in the request`);
    seen.add(handle.toLowerCase());
    if (!request.permit.contracts.some((c) => same(c, contract))) {
      throw new RequestError("ContractNotInPermit", `contract ${contract} does not stand in the permit`);
    }
  }
  const length = tryFromHex(request.signature)?.length ?? 0;
  if (length === 0 || length > MAX_SIGNATURE_BYTES) throw new RequestError("SignatureLength", `a signature of ${length} bytes`);
  return types;
}

/** Id of a request: equal requests are one job at a relayer and at the parties. */
export function requestId(request: UserRequest, domain: DecryptionDomain): Hex {
  return keccak256(
    encodeAbiParameters(
      [
        { type: "string" },
        { type: "uint256" },
        { type: "bytes32" },
        { type: "address" },
        { type: "tuple[]", components: [{ name: "handle", type: "bytes32" }, { name: "contract", type: "address" }] },
      ],
      [
        "KMS-USER-1",
        request.hostChainId,
        permitHash(request.permit, request.hostChainId, domain),
        lower(request.permit.user),
        request.pairs.map((pair) => ({ handle: lower(pair.handle), contract: lower(pair.contract) })),
      ],
    ),
  );
}

/** The bytes of a public key in hex. */
export function publicKeyBytes(permit: Permit): Uint8Array {
  return fromHex(permit.publicKey);
}
