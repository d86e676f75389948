/** What is read from the chain, against a chain that answers by name; and what needs a page. */

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type ChainReader, type Hex, KmsError, readActiveKey, readCommittee } from "../src/index.js";
import { InputError, browserProver } from "../src/inputs/browser.js";
import { word } from "./support.js";

const verifier: Hex = `0x${"11".repeat(20)}`;
const signers: Hex[] = [1, 2, 3, 4].map((i): Hex => `0x${`0${i}`.repeat(20)}`);

/** A chain with these answers. Remembers what it was asked. */
function chain(answers: Record<string, unknown>): ChainReader & { asked: { functionName: string; address: Hex; args?: readonly unknown[] }[] } {
  const asked: { functionName: string; address: Hex; args?: readonly unknown[] }[] = [];
  return { asked, readContract: async (call) => (asked.push(call), answers[call.functionName]) };
}

const context = (destroyed: boolean) => ({ contextId: word("context"), signers, t: 1n, threshold: 3n, destroyed });
const eip712Domain = ["0x0f", "Decryption", "1", 5n, verifier, word("salt"), []];

describe("chain", () => {
  it("tells the current committee and its domain, or a named one", async () => {
    const live = chain({ currentContextId: word("context"), contextOf: context(false), eip712Domain });
    const expected = { parties: { contextId: word("context"), signers, t: 1 }, domain: { chainId: 5n, verifyingContract: verifier } };
    assert.deepEqual(await readCommittee(live, verifier), expected);
    assert.ok(live.asked.every(({ address }) => address === verifier));
    const named = chain({ contextOf: context(false), eip712Domain });
    assert.equal((await readCommittee(named, verifier, word("other"))).parties.contextId, word("other"));
    assert.deepEqual(named.asked.find(({ functionName }) => functionName === "contextOf")?.args, [word("other")]);
  });

  it("has committees that sign no more, and may have no key", async () => {
    const gone = chain({ currentContextId: word("context"), contextOf: context(true), eip712Domain });
    await assert.rejects(readCommittee(gone, verifier), (error) => error instanceof KmsError && error.code === "DestroyedContext");
    const none = `0x${"00".repeat(32)}`;
    await assert.rejects(readActiveKey(chain({ activeKey: [none, none, none] }), verifier), { code: "NoKey" });
    assert.equal(await readActiveKey(chain({ activeKey: [word("key"), none, none] }), verifier), word("key"));
  });
});

describe("a page", () => {
  it("that is not isolated is told what it lacks before a worker starts", async () => {
    const prover = browserProver({ worker: () => assert.fail("a worker was started") });
    const task = { publicKey: new Uint8Array(), crs: new Uint8Array(), metadata: new Uint8Array(), values: [] };
    await assert.rejects(prover(task), (error) => error instanceof InputError && error.code === "NotIsolated");
  });
});
