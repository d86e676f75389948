/** What a client has to know from the chain: committee, domain, key. */

import { type Hex } from "./bytes.js";
import type { Parties } from "./decryption.js";
import { KmsError } from "./errors.js";
import type { DecryptionDomain } from "./permit.js";

const word = (name: string) => ({ name, type: "bytes32" }) as const;
const view = { type: "function", stateMutability: "view" } as const;

/** The views of `KmsVerifier` that are read. */
export const kmsVerifierAbi = [
  { ...view, name: "currentContextId", inputs: [], outputs: [word("")] },
  {
    ...view,
    name: "contextOf",
    inputs: [word("contextId")],
    outputs: [
      {
        name: "",
        type: "tuple",
        components: [
          word("contextId"),
          { name: "signers", type: "address[]" },
          { name: "t", type: "uint256" },
          { name: "threshold", type: "uint256" },
          { name: "destroyed", type: "bool" },
        ],
      },
    ],
  },
  {
    ...view,
    name: "eip712Domain",
    inputs: [],
    outputs: [
      { name: "fields", type: "bytes1" },
      { name: "name", type: "string" },
      { name: "version", type: "string" },
      { name: "chainId", type: "uint256" },
      { name: "verifyingContract", type: "address" },
      word("salt"),
      { name: "extensions", type: "uint256[]" },
    ],
  },
] as const;

/** The view of `KeyManagement` that is read. */
export const keyManagementAbi = [
  { ...view, name: "activeKey", inputs: [], outputs: [word("keyId"), word("contextId"), word("epochId")] },
] as const;

/** The part of viem's `PublicClient` that is used. */
export interface ChainReader {
  // Its types follow from the ABI, which no other type says.
  readContract(parameters: any): Promise<any>;
}

/** A committee, and the domain in which its parties sign. */
export interface Committee {
  readonly parties: Parties;
  readonly domain: DecryptionDomain;
}

/** Reads a context and the canonical decryption domain; the current context if none is named. Throws if it was destroyed. */
export async function readCommittee(chain: ChainReader, kmsVerifier: Hex, contextId?: Hex): Promise<Committee> {
  const read = (functionName: string, args: readonly unknown[] = []) =>
    chain.readContract({ address: kmsVerifier, abi: kmsVerifierAbi, functionName, args });
  const id = contextId ?? ((await read("currentContextId")) as Hex);
  const [context, domain] = await Promise.all([read("contextOf", [id]), read("eip712Domain")]);
  const { signers, t, destroyed } = context as { signers: readonly Hex[]; t: bigint; destroyed: boolean };
  if (destroyed || signers.length === 0) throw new KmsError("DestroyedContext", `context ${id} signs no more`);
  const [, , , chainId, verifyingContract] = domain as readonly [Hex, string, string, bigint, Hex];
  return { parties: { contextId: id, signers, t: Number(t) }, domain: { chainId, verifyingContract } };
}

/** Id of the key that is encrypted under. Throws if there is none. */
export async function readActiveKey(chain: ChainReader, keyManagement: Hex): Promise<Hex> {
  const [keyId] = (await chain.readContract({
    address: keyManagement,
    abi: keyManagementAbi,
    functionName: "activeKey",
  })) as readonly [Hex, Hex, Hex];
  if (BigInt(keyId) === 0n) throw new KmsError("NoKey", "there is no active key");
  return keyId;
}
