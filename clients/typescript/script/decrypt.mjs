// Decrypts handles for a user as any Node program does. The user's key is read from the environment variable USER_KEY.
// Reads JSON from standard input:
//   {"rpcUrl": url, "relayerUrl": url, "kmsVerifier": "0x…", "pairs": [{"handle": "0x…", "contract": "0x…"}], "delegator": "0x…"?}
// Writes {"requestId": "0x…", "values": [{"handle", "type", "value"}], "agreeing": [1, 2, 4], "wrong": [], "permitMs", "answerMs"}.
import { text } from "node:stream/consumers";
import { KeyPair, Relayer, UserDecryption, createPermit, permitTypedData, readCommittee, requestId, toHex } from "@kms/client";
import { createPublicClient, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";

const { rpcUrl, relayerUrl, kmsVerifier, pairs, delegator } = JSON.parse(await text(process.stdin));
const account = privateKeyToAccount(process.env.USER_KEY);
const chain = createPublicClient({ transport: http(rpcUrl) });

const begun = performance.now();
const hostChainId = BigInt(await chain.getChainId());
const { parties, domain } = await readCommittee(chain, kmsVerifier);
const keys = KeyPair.generate();
const contracts = [...new Set(pairs.map((pair) => pair.contract))];
const permit = createPermit({
  user: account.address,
  ...(delegator && { delegator }),
  publicKey: toHex(keys.publicKey),
  contracts,
  contextId: parties.contextId,
});
const signature = await account.signTypedData(permitTypedData(permit, hostChainId, domain));
const asked = performance.now();

const request = { hostChainId, permit, signature, pairs };
const decryption = new UserDecryption({ parties, domain, request, keys });
const { values, agreeing, progress } = await new Relayer({ url: relayerUrl }).decrypt(decryption, { timeoutMs: 300_000 });
keys.destroy();
console.log(
  JSON.stringify({
    requestId: requestId(request, domain),
    values: values.map(({ handle, type, value }) => ({ handle, type, value: typeof value === "bigint" ? value.toString() : value })),
    agreeing,
    wrong: progress.wrong,
    permitMs: Math.round(asked - begun),
    answerMs: Math.round(performance.now() - asked),
  }),
);
