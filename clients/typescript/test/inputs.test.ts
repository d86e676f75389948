/** Encrypted inputs: ids and proofs against the known answers, the coprocessor client against an HTTP server that misbehaves. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe, it } from "node:test";
import { sha256 } from "@noble/hashes/sha2.js";
import { type Hex, ascii, concat, fromHex, toHex } from "../src/bytes.js";
import { FHE_TYPES } from "../src/handle.js";
import { CoprocessorError, InputError, type ProverTask, createInputEncryptor, inputHandle, inputMetadata } from "../src/inputs/node.js";
import { listHandles, mergeInputProofs, parseInputProof, typedValue } from "../src/inputs/list.js";

type Json = any;
const golden = (name: string): Json[] => JSON.parse(readFileSync(new URL(`../../../../tests/golden/${name}.json`, import.meta.url), "utf8"));

describe("golden", () => {
  const ids = golden("ids");
  for (const one of ids.filter(({ kind }) => kind === "input")) {
    it(one.name, () => {
      const type = FHE_TYPES.get(one.type)!;
      assert.equal(inputHandle(fromHex(one.ciphertextHash), one.acl, BigInt(one.chainId), one.index, type), one.expect);
    });
  }
  for (const one of ids.filter(({ kind }) => kind === "metadata")) {
    it(one.name, () => {
      const binding = { hostChainId: BigInt(one.chainId), accessControl: one.acl, contract: one.contract, user: one.user };
      assert.equal(toHex(inputMetadata(binding)), one.expect);
    });
  }
  it("covers ids and metadata", () => assert.ok(ids.some(({ kind }) => kind === "input") && ids.some(({ kind }) => kind === "metadata")));
});

const account = (byte: string): Hex => `0x${byte.repeat(20)}`;
const binding = { hostChainId: 31337n, accessControl: account("ac"), contract: account("c0"), user: account("a1") };
const proofOf = (handles: readonly Hex[], signatures: number[], extra: number[] = []) =>
  concat(
    Uint8Array.of(handles.length, signatures.length),
    ...handles.map((handle) => fromHex(handle)),
    ...signatures.map((byte) => new Uint8Array(65).fill(byte)),
    Uint8Array.from(extra),
  );

describe("values", () => {
  it("of every type at their bounds", () => {
    for (const { name, valueBits } of FHE_TYPES.values()) {
      if (name === "bool" || name === "address") continue;
      const most = (1n << BigInt(valueBits)) - 1n;
      assert.deepEqual(typedValue(name, most), { type: name, value: most });
      for (const bad of [most + 1n, -1n, 1.5, true, "1", undefined]) {
        assert.throws(() => typedValue(name, bad), (error) => error instanceof InputError && error.code === "OutOfRange", `${name} ${bad}`);
      }
    }
    assert.deepEqual(typedValue("bool", true), { type: "bool", value: 1n });
    assert.throws(() => typedValue("bool", 1n), InputError);
    assert.deepEqual(typedValue("address", `0x${"00".repeat(19)}ff`), { type: "address", value: 255n });
    assert.throws(() => typedValue("address", "0xff"), InputError);
    assert.throws(() => typedValue("uint512" as "uint8", 1n), InputError);
  });
});

describe("proofs", () => {
  const handles = listHandles(Uint8Array.of(1, 2, 3), binding, [typedValue("bool", true), typedValue("uint64", 7n)]);
  it("of several coprocessors become one", () => {
    const merged = mergeInputProofs([proofOf(handles, [1]), proofOf(handles, [2, 3])], handles);
    assert.deepEqual(merged, proofOf(handles, [1, 2, 3]));
    assert.equal(parseInputProof(merged)?.signatures.length, 3);
  });
  it("of something else are refused", () => {
    const wrong = [[proofOf([handles[0]!], [1])], [proofOf(handles, [])], [new Uint8Array()], [proofOf(handles, [1]).slice(0, -1)]];
    wrong.push([proofOf(handles, [1]), proofOf(handles, [2], [0])]);
    for (const proofs of wrong) assert.throws(() => mergeInputProofs(proofs, handles), { code: "ForeignProof" });
  });
});

/** A coprocessor that signs with bytes, with what it gets wrong. */
const files = { "public_key.bin": Uint8Array.of(1), "keyset.bin": Uint8Array.of(2), "crs.bin": Uint8Array.of(3) };
const digests = Object.values(files).map((bytes) => sha256(bytes));
const keyId = toHex(sha256(concat(ascii("KMS-KEY-1"), sha256(concat(Uint8Array.of(0xf1), ...digests)))));
const bundle = (params = "insecure-test") => ({
  params,
  files: Object.fromEntries(Object.keys(files).map((name, i) => [name, { sha256: toHex(digests[i]!), bytes: 1 }])),
});
let mistakes: { key?: Json; crs?: Uint8Array; handles?: Hex[]; refuse?: string } = {};
const posted: Json[] = [];
let fetched = 0;
const server = createServer((request, response) => {
  let body = "";
  request.on("data", (part: Buffer) => (body += part.toString()));
  request.on("end", () => respond(request.url!, body, response));
});
function respond(path: string, body: string, response: ServerResponse): void {
  const json = (status: number, value: unknown) => response.writeHead(status).end(JSON.stringify(value));
  if (path === "/v1/keys") return void (fetched++, json(200, mistakes.key ?? bundle()));
  if (path === "/v1/keys/crs.bin") return void response.end(mistakes.crs ?? files["crs.bin"]);
  if (path === "/v1/keys/public_key.bin") return void response.end(files["public_key.bin"]);
  if (path !== "/v1/inputs") return void json(404, { error: { label: "unknown_file", message: path } });
  if (mistakes.refuse) return void json(400, { error: { label: mistakes.refuse, message: "no" } });
  posted.push(JSON.parse(body));
  const handles = mistakes.handles ?? listHandles(list, binding, [typedValue("bool", true), typedValue("uint64", 7n)]);
  json(200, { handles, inputProof: toHex(proofOf(handles, [9])) });
}
const list = Uint8Array.of(5, 6, 7);
let url: string;
before(async () => {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
after(() => server.close());

describe("encryptor", () => {
  const tasks: ProverTask[] = [];
  const prover = async (task: ProverTask) => (tasks.push(task), list);
  const create = (coprocessors = [url]) =>
    createInputEncryptor({ coprocessors, hostChainId: 31337n, accessControl: binding.accessControl, keyId, prover });
  const encrypt = (encryptor = create()) => encryptor.inputs(binding).addBool(true).addUint64(7n).encrypt();

  it("binds, proves, posts to all and merges", async () => {
    const encryptor = create([url, url]);
    const { handles, inputProof } = await encrypt(encryptor);
    await encrypt(encryptor);
    assert.equal(fetched, 1, "keys are fetched once");
    assert.equal(handles.length, 2);
    assert.deepEqual(parseInputProof(fromHex(inputProof))?.signatures.length, 2);
    assert.deepEqual(tasks[0]!.metadata, inputMetadata(binding));
    assert.deepEqual(tasks[0]!.publicKey, files["public_key.bin"]);
    assert.deepEqual(tasks[0]!.values.map(({ value }) => value), [1n, 7n]);
    assert.deepEqual(posted[0], { chainId: 31337, contract: binding.contract, user: binding.user, ciphertext: toHex(list) });
  });

  it("refuses what can't be one list", async () => {
    const bits = (count: number) => {
      const some = create().inputs(binding);
      for (let i = 0; i < count; i++) some.addUint256(1n);
      return some.encrypt();
    };
    await assert.rejects(bits(0), { code: "WrongCount" });
    await assert.rejects(bits(256), { code: "WrongCount" });
    await assert.rejects(bits(3), { code: "TooManyBits" });
    assert.throws(() => create().inputs({ ...binding, user: "0x12" }), { code: "MalformedAddress" });
  });

  it("takes no other key, and no other answer", async () => {
    const rejects = async (wrong: typeof mistakes, code: string, type: typeof InputError | typeof CoprocessorError = CoprocessorError) => {
      mistakes = wrong;
      await assert.rejects(encrypt(), (error) => error instanceof type && error.code === code, code);
    };
    const other = { ...bundle(), files: { ...bundle().files, "keyset.bin": { sha256: toHex(new Uint8Array(32)) } } };
    await rejects({ key: other }, "OtherKey");
    await rejects({ key: bundle("production") }, "OtherKey");
    await rejects({ key: bundle("none") }, "Malformed");
    await rejects({ key: [] }, "Malformed");
    await rejects({ crs: Uint8Array.of(4) }, "Digest");
    await rejects({ crs: new Uint8Array((16 << 20) + 1) }, "TooLarge");
    await rejects({ handles: [keyId] }, "ForeignProof", InputError);
    await rejects({ handles: ["0x12"] }, "Malformed");
    await rejects({ refuse: "invalid_proof" }, "invalid_proof");
    mistakes = {};
    // What failed is not remembered.
    const encryptor = create();
    mistakes = { crs: Uint8Array.of(4) };
    await assert.rejects(encrypt(encryptor), { code: "Digest" });
    mistakes = {};
    await encrypt(encryptor);
  });

  it("says what tfhe says of keys that are none, and can be given up", async () => {
    const options = { coprocessors: [url], hostChainId: 31337n, accessControl: binding.accessControl, keyId };
    await assert.rejects(encrypt(createInputEncryptor(options)), (error) => error instanceof InputError && error.code === "Prover");
    const abort = new AbortController();
    const running = createInputEncryptor(options).inputs(binding).addBool(true).encrypt({ signal: abort.signal });
    abort.abort(new Error("enough"));
    await assert.rejects(running, { message: "enough" });
  });
});
