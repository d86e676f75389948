// Encrypts values for a contract as any Node program does. Reads JSON from standard input:
//   {"coprocessors": [url], "hostChainId": "31337", "accessControl": "0x…", "keyId": "0x…", "contract": "0x…", "user": "0x…",
//    "values": [["bool", true], ["uint64", "42"], ["address", "0x…"]]}
// Writes {"handles": ["0x…"], "inputProof": "0x…"}.
import { text } from "node:stream/consumers";
import { createInputEncryptor } from "@kms/client/inputs";

const { hostChainId, contract, user, values, ...options } = JSON.parse(await text(process.stdin));
const list = createInputEncryptor({ ...options, hostChainId: BigInt(hostChainId) }).inputs({ contract, user });
for (const [type, value] of values) list.add(type, type === "bool" || type === "address" ? value : BigInt(value));
console.log(JSON.stringify(await list.encrypt()));
