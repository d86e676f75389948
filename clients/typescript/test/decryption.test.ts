import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { fromHex, toHex } from "../src/bytes.js";
import { type Hex, KeyPair, RequestError, UndecidedError, UserDecryption, createPermit, permitTypedData } from "../src/index.js";
import { floodBound } from "../src/rounding.js";
import { Scene, domain, random, word } from "./support.js";

const uint256 = { type: 8, value: (1n << 255n) | 0x1234567890abcdefn };
const reader = (scene: Scene) =>
  new UserDecryption({ parties: scene.parties, domain, request: scene.request, keys: scene.keys });
const four = () => new Scene(4, 1, [{ type: 5, value: 42n }, { type: 0, value: 1n }], floodBound(4, 1));

describe("user decryption", () => {
  it("a uint256 from thirteen shares, four of them wrong and first", () => {
    const scene = new Scene(13, 4, [uint256], floodBound(13, 4));
    const decryption = reader(scene);
    const next = random(4);
    for (const party of [2, 5, 7, 11]) {
      assert.deepEqual(decryption.add(scene.response(party, { words: scene.wrongWords(party, next) })), { kind: "share", party });
    }
    const honest = [1, 3, 4, 6, 8, 9, 10, 12, 13];
    honest.forEach((party, i) => {
      if (i > 0) {
        assert.throws(
          () => decryption.reconstruct(),
          (e: unknown) => e instanceof UndecidedError && e.progress.wrong.length === 0 && e.progress.shares.length === 4 + i,
        );
      }
      decryption.add(scene.response(party));
    });
    const result = decryption.reconstruct();
    assert.equal(result.values[0]!.value, uint256.value);
    assert.deepEqual(result.progress.wrong, [2, 5, 7, 11].map((party) => ({ party, fault: "Share" })));
    assert.deepEqual(result.agreeing, honest);
  });

  it("at most t liars never change a value, in any order", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1 << 30 }), fc.constantFrom([4, 1], [7, 2], [13, 4]), (seed, [n, t]) => {
        const next = random(seed);
        const pick = (k: number) => Number(next() % BigInt(k));
        const scene = new Scene(n!, t!, [{ type: 4, value: next() & 0xffffffffn }, { type: 7, value: next() }], floodBound(n!, t!), {
          seed: seed % 250,
          kem: seed & 1 ? "ML-KEM-512" : "ML-KEM-768",
        });
        const liars = new Set(Array.from({ length: pick(t! + 1) }, () => 1 + pick(n!)));
        const order = Array.from({ length: n! }, (_, i) => i + 1).sort(() => (next() & 1n ? 1 : -1));
        const decryption = reader(scene);
        let [heard, wrong] = [0, 0];
        for (const party of order) {
          heard++;
          if (liars.has(party)) wrong++;
          decryption.add(scene.response(party, liars.has(party) ? { words: scene.wrongWords(party, next) } : {}));
          try {
            const result = decryption.reconstruct();
            assert.equal(result.progress.wrong.length, wrong);
          } catch (error) {
            if (!(error instanceof UndecidedError)) throw error;
            assert.ok(heard < 2 * t! + 1 + wrong);
          }
        }
        assert.deepEqual(decryption.reconstruct().progress.wrong.map((w) => w.party), [...liars].sort((a, b) => a - b));
      }),
      { numRuns: 12 },
    );
  });

  it("a tampered response blames nobody", () => {
    const scene = four();
    const decryption = reader(scene);
    const good = scene.response(1);
    const share = fromHex(good.share);
    share[300]! ^= 1;
    assert.deepEqual(decryption.add({ ...good, share: toHex(share) }), { kind: "rejected", reason: "Stranger" });
    assert.deepEqual(decryption.add({ ...good, extraData: "0x" }), { kind: "rejected", reason: "ExtraData" });
    assert.deepEqual(decryption.add({ ...good, signature: "0x00" }), { kind: "rejected", reason: "SignatureLength" });
    assert.deepEqual(decryption.add({ ...good, share: "0xzz" }), { kind: "rejected", reason: "Malformed" });
    assert.deepEqual(decryption.progress().missing, [1, 2, 3, 4]);
  });

  it("garbage never throws", () => {
    const scene = four();
    const text = fc.oneof(fc.string(), fc.uint8Array({ maxLength: 300 }).map(toHex), fc.anything());
    fc.assert(
      fc.property(text, text, text, (share, signature, extraData) => {
        const added = reader(scene).add({ share: share as Hex, signature: signature as Hex, extraData: extraData as Hex });
        assert.equal(added.kind, "rejected");
      }),
    );
  });

  it("signed garbage names its party", () => {
    const scene = four();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (bytes, prefixed) => {
        const share = prefixed ? Uint8Array.from([...new TextEncoder().encode("KMSE"), 1, 1, 2, ...bytes]) : bytes;
        const added = reader(scene).add(scene.signed(2, share));
        assert.ok(added.kind === "wrong" && added.party === 2);
      }),
      { numRuns: 30 },
    );
  });

  it("other epochs and older permits are elsewhere, not wrong", () => {
    const scene = four();
    const decryption = reader(scene);
    decryption.add(scene.response(1, { header: { epochId: fromHex(word("next epoch")) } }));
    const older = decryption.add(scene.response(2, { header: { permitHash: fromHex(word("older")) } }));
    assert.ok(older.kind === "foreign" && older.foreign.kind === "Permit");
    for (const party of [3, 4]) decryption.add(scene.response(party));
    assert.throws(
      () => decryption.reconstruct(),
      (e: unknown) => e instanceof UndecidedError && e.message.includes("elsewhere: 1, 2") && e.progress.wrong.length === 0,
    );
    decryption.add(scene.response(2));
    const result = decryption.reconstruct();
    assert.deepEqual(result.values.map((v) => v.value), [42n, true]);
    assert.deepEqual(result.progress.elsewhere.map((e) => [e.party, e.foreign.kind]), [[1, "Group"]]);
  });

  it("two different shares of one party are evidence", () => {
    const scene = four();
    const decryption = reader(scene);
    decryption.add(scene.response(1));
    assert.equal(decryption.add(scene.response(1)).kind, "repeated");
    const lie = decryption.add(scene.response(1, { words: scene.wrongWords(1, random(2)) }));
    assert.deepEqual(lie, { kind: "wrong", party: 1, fault: "Conflicting" });
    for (const party of [2, 3, 4]) decryption.add(scene.response(party));
    assert.deepEqual(decryption.reconstruct().progress.wrong, [{ party: 1, fault: "Conflicting" }]);
  });

  it("a delegate reads", () => {
    const scene = new Scene(4, 1, [{ type: 3, value: 77n }], floodBound(4, 1), { delegator: `0x${"66".repeat(20)}` });
    const decryption = reader(scene);
    for (const party of [1, 2, 3]) decryption.add(scene.response(party));
    assert.equal(decryption.reconstruct().values[0]!.value, 77n);
  });

  it("requests that do not fit are refused", () => {
    const scene = four();
    const make = (change: object) => () => new UserDecryption({ parties: scene.parties, domain, request: scene.request, keys: scene.keys, ...change });
    const code = (expected: string) => (e: unknown) => e instanceof RequestError && e.code === expected;
    assert.throws(make({ keys: KeyPair.generate() }), code("OtherKey"));
    assert.throws(make({ parties: { ...scene.parties, t: 2 } }), code("Committee"));
    assert.throws(make({ parties: { ...scene.parties, contextId: word("other") } }), code("Context"));
    const signers = [scene.parties.signers[0]!, ...scene.parties.signers.slice(0, 3)];
    assert.throws(make({ parties: { ...scene.parties, signers } }), code("RepeatedSigner"));
  });
});

describe("permit", () => {
  it("has defaults that follow the rules, and typed data for a wallet", () => {
    const keys = KeyPair.generate();
    const options = { user: `0x${"11".repeat(20)}`, publicKey: toHex(keys.publicKey), contracts: [`0x${"33".repeat(20)}`] } as const;
    const permit = createPermit({ ...options, contextId: word("context") });
    assert.equal(permitTypedData(permit, 1n, domain).primaryType, "UserDecryptRequestVerification");
    const delegated = createPermit({ ...options, delegator: `0x${"44".repeat(20)}`, days: 365 });
    assert.equal(permitTypedData(delegated, 1n, domain).primaryType, "DelegatedUserDecryptRequestVerification");
    for (const [change, code] of [
      [{ days: 366 }, "Days"],
      [{ contracts: [] }, "ContractCount"],
      [{ contracts: [options.user] }, "UserInContracts"],
      [{ publicKey: "0x00" }, "PublicKey"],
      [{ user: "0x11" }, "MalformedAddress"],
    ] as const) {
      assert.throws(() => createPermit({ ...options, ...change } as never), (e: unknown) => e instanceof RequestError && e.code === code);
    }
  });

  it("a stored seed gives the key pair again", () => {
    const keys = KeyPair.generate("ML-KEM-512");
    assert.deepEqual(KeyPair.fromSeed(keys.exportSeed(), "ML-KEM-512").publicKey, keys.publicKey);
  });
});
