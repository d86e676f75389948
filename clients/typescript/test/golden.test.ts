/** The known answers that the Rust client writes and checks too. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { ml_kem512, ml_kem768 } from "@noble/post-quantum/ml-kem.js";
import { type Hex, ascii, concat, fromHex, integer, toHex } from "../src/bytes.js";
import { type Binding, associatedData, envelopeCipher, openEnvelope, parseEnvelope, payloadHeader } from "../src/envelope.js";
import { checkHandles, type FheType } from "../src/handle.js";
import {
  type Added,
  KeyPair,
  type Kem,
  type Permit,
  type Progress,
  RefusedError,
  RequestError,
  UndecidedError,
  UserDecryption,
  type UserRequest,
  checkRequest,
  kemOfPublicKey,
  permitHash,
  permitTimeFault,
  requestId,
} from "../src/index.js";
import { KEMS } from "../src/kem.js";


type Json = any;
const path = new URL("../../../../tests/golden/user_decryption.json", import.meta.url);
const cases: Json[] = JSON.parse(readFileSync(path, "utf8"));

const domain = (json: Json) => ({ chainId: BigInt(json.chainId), verifyingContract: json.verifyingContract as Hex });

function permit(json: Json): Permit {
  const { delegator, start, ...rest } = json;
  return { ...rest, start: BigInt(start), ...(delegator !== null && { delegator }) };
}

const request = (json: Json): UserRequest => ({
  ...json,
  hostChainId: BigInt(json.hostChainId),
  permit: permit(json.permit),
});

function label(added: Added): string {
  switch (added.kind) {
    case "rejected":
      return `rejected ${added.reason}`;
    case "foreign":
      return `foreign ${added.party} ${added.foreign.kind}`;
    case "wrong":
      return `wrong ${added.party} ${added.fault}`;
    default:
      return `${added.kind} ${added.party}`;
  }
}

const progressJson = (p: Progress) => ({
  needed: p.needed,
  shares: p.shares,
  wrong: p.wrong,
  elsewhere: p.elsewhere.map(({ party, foreign }) => ({ party, kind: foreign.kind })),
  missing: p.missing,
});

const checks: Record<string, (c: Json) => unknown> = {
  key: (c) => toHex(KeyPair.fromSeed(fromHex(c.seed), c.kem).publicKey),

  "public key": (c) => {
    const kem = kemOfPublicKey(fromHex(c.publicKey));
    if (typeof kem !== "string") throw new RequestError(kem.fault, "public key");
    return kem;
  },

  request: (c) => {
    const r = request(c.request);
    checkRequest(r);
    return { permitHash: permitHash(r.permit, r.hostChainId, domain(c.domain)), requestId: requestId(r, domain(c.domain)) };
  },

  time: (c) => {
    const fault = permitTimeFault({ start: BigInt(c.start), days: c.days } as Permit, BigInt(c.now));
    if (fault) throw new RequestError(fault, "time");
    return "valid";
  },

  envelope: (c) => {
    const r = request(c.request);
    const kem: Kem = c.kem;
    const keys = KeyPair.fromSeed(fromHex(c.seed), kem);
    const types = checkHandles(r.pairs.map((p) => p.handle), r.hostChainId) as FheType[];
    const words: bigint[] = c.words.map(BigInt);
    const header = {
      party: c.party,
      contextId: fromHex(c.contextId),
      epochId: fromHex(c.epochId),
      keyId: fromHex(c.keyId),
      user: fromHex(r.permit.user),
      permitHash: fromHex(permitHash(r.permit, r.hostChainId, domain(c.domain))),
      digests: c.digests.map((d: Hex) => fromHex(d)),
    };
    const binding: Binding = {
      publicKey: keys.publicKey,
      hostChainId: r.hostChainId,
      domainChainId: domain(c.domain).chainId,
      verifyingContract: fromHex(c.domain.verifyingContract),
      extraData: fromHex(r.permit.extraData),
      handles: r.pairs.map((p) => fromHex(p.handle)),
      types,
    };
    // Sealed here again with the same randomness, and the stored one opened.
    const payload = concat(payloadHeader(c.degree, types), ...words.map((w) => integer(w, 16).reverse()));
    const aad = associatedData(kem, header, binding);
    const engine = kem === "ML-KEM-768" ? ml_kem768 : ml_kem512;
    const { cipherText, sharedSecret } = engine.encapsulate(keys.publicKey, fromHex(c.m));
    const sealed = envelopeCipher(sharedSecret, keys.publicKey, cipherText, aad).encrypt(payload);
    const envelope = concat(
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
    const parsed = parseEnvelope(fromHex(c.expect.envelope));
    assert.ok(!("fault" in parsed));
    assert.deepEqual(openEnvelope(keys, parsed, binding, c.degree), words);
    return { payload: toHex(payload), associatedData: toHex(aad), envelope: toHex(envelope) };
  },

  decryption: (c) => {
    const keys = KeyPair.fromSeed(fromHex(c.seed), c.kem);
    const reader = new UserDecryption({ parties: c.parties, domain: domain(c.domain), request: request(c.request), keys });
    const added = c.responses.map((response: Json) => label(reader.add(response)));
    try {
      const { values, group, agreeing, progress } = reader.reconstruct();
      const word = (value: boolean | bigint | Hex) => `0x${BigInt(value).toString(16).padStart(64, "0")}`;
      return {
        values: values.map(({ handle, type, value }) => ({ handle, type, value: word(value) })),
        group,
        agreeing,
        added,
        progress: progressJson(progress),
      };
    } catch (error) {
      if (error instanceof UndecidedError) return { undecided: true, added, progress: progressJson(error.progress) };
      if (!(error instanceof RefusedError)) throw error;
      return { refused: error.code, handle: error.handle, added, progress: progressJson(error.progress) };
    }
  },
};

describe("known answers", () => {
  for (const c of cases) {
    it(c.name, () => {
      const check = checks[c.kind];
      assert.ok(check, `unknown kind ${c.kind}`);
      if (c.error !== undefined) {
        assert.throws(() => check(c), (e: unknown) => e instanceof RequestError && e.code === c.error);
      } else {
        // Addresses stand in the file in checksummed form.
        const lower = (json: unknown) => JSON.parse(JSON.stringify(json).toLowerCase()) as unknown;
        assert.deepEqual(lower(check(c)), lower(c.expect));
      }
    });
  }
  it("every kind is there", () => {
    assert.deepEqual(new Set(cases.map((c) => c.kind)), new Set(Object.keys(checks)));
  });
});
