/** The relayer client against a real HTTP server that behaves in all the ways it should bear. */

import assert from "node:assert/strict";
import { type IncomingMessage, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe, it } from "node:test";
import { Relayer, RelayerError, UndecidedError, UserDecryption, type UserResponse, requestId } from "../src/index.js";
import { floodBound } from "../src/rounding.js";
import { Scene, domain, random } from "./support.js";

type Handler = (request: IncomingMessage, response: ServerResponse, body: string) => void;
let handler: Handler;
const server = createServer((request, response) => {
  let body = "";
  request.on("data", (part: Buffer) => (body += part.toString()));
  request.on("end", () => handler(request, response, body));
});
let url: string;
before(async () => {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/base/`;
});
after(() => server.close());

const scene = new Scene(4, 1, [{ type: 5, value: 42n }], floodBound(4, 1));
const decryption = () => new UserDecryption({ parties: scene.parties, domain, request: scene.request, keys: scene.keys });
const id = requestId(scene.request, domain);
const json = (response: ServerResponse, status: number, body: unknown, retry = "0") => {
  response.writeHead(status, { "content-type": "application/json", "retry-after": retry });
  response.end(JSON.stringify(body));
};
const queued = { status: "queued", requestId: id, result: { jobId: id } };
const collected = (shares: UserResponse[], collecting: boolean) => ({
  status: "succeeded",
  requestId: id,
  result: { shares, collecting },
});

describe("relayer", () => {
  it("asks, waits, and reads again while the shares do not decide", async () => {
    const lie = scene.response(2, { words: scene.wrongWords(2, random(3)) });
    const good = [1, 3, 4].map((party) => scene.response(party));
    const states = [undefined, [lie, good[0]!, good[1]!], [lie, ...good]];
    const paths: string[] = [];
    handler = (request, response, body) => {
      paths.push(`${request.method} ${request.url}`);
      if (request.method === "POST") {
        const parsed = JSON.parse(body) as Record<string, unknown>;
        assert.equal(parsed["contractsChainId"], "31337");
        assert.deepEqual(parsed["requestValidity"], { startTimestamp: "1700000000", durationDays: "10" });
        return json(response, 202, queued);
      }
      const shares = states.shift();
      // Hex without 0x is accepted too.
      const bare = shares?.map((s) => ({ ...s, share: s.share.slice(2) as `0x${string}` }));
      return bare ? json(response, 200, collected(bare, true)) : json(response, 202, queued);
    };
    const result = await new Relayer({ url }).decrypt(decryption());
    assert.equal(result.values[0]!.value, 42n);
    assert.deepEqual(result.progress.wrong, [{ party: 2, fault: "Share" }]);
    assert.deepEqual(paths, ["POST /base/v2/user-decrypt", ...new Array<string>(3).fill(`GET /base/v2/user-decrypt/${id}`)]);
  });

  it("a delegated request has a route of its own", async () => {
    const delegated = new Scene(4, 1, [{ type: 0, value: 1n }], floodBound(4, 1), { delegator: `0x${"66".repeat(20)}` });
    let seen = "";
    handler = (request, response, body) => {
      seen = `${request.url} ${(JSON.parse(body) as Record<string, string>)["delegatorAddress"]}`;
      json(response, 202, queued);
    };
    await new Relayer({ url }).submit(delegated.request);
    assert.equal(seen, `/base/v2/delegated-user-decrypt 0x${"66".repeat(20)}`);
  });

  it("sends the key that it was given, and none of its own making", async () => {
    const keys: (string | undefined)[] = [];
    handler = (request, response) => {
      keys.push(request.headers.authorization);
      json(response, request.method === "POST" ? 202 : 404, request.method === "POST" ? queued : {});
    };
    for (const options of [{ url }, { url, apiKey: "kms_1" }]) {
      const relayer = new Relayer(options);
      await relayer.submit(scene.request);
      await assert.rejects(relayer.status(scene.request, id));
    }
    assert.deepEqual(keys, [undefined, undefined, "Bearer kms_1", "Bearer kms_1"]);
  });

  it("gives up when nothing more is collected, and names who is missing", async () => {
    handler = (request, response) =>
      request.method === "POST" ? json(response, 202, queued) : json(response, 200, collected([scene.response(1)], false));
    await assert.rejects(
      new Relayer({ url }).decrypt(decryption()),
      (e: unknown) => e instanceof UndecidedError && e.progress.missing.join() === "2,3,4",
    );
  });

  it("reports the relayer's labels, its absence and its nonsense", async () => {
    const fails = async (code: string, status: number, h: Handler, options = {}) => {
      handler = h;
      await assert.rejects(
        new Relayer({ url, ...options }).decrypt(decryption(), { timeoutMs: 500 }),
        (e: unknown) => e instanceof RelayerError && e.code === code && e.status === status,
        code,
      );
    };
    const error = { status: "failed", error: { label: "Expired", message: "the permit was valid until yesterday" } };
    await fails("Expired", 400, (_, response) => json(response, 400, error));
    await fails("Http", 500, (_, response) => response.writeHead(500).end("<html>"));
    await fails("Malformed", 202, (_, response) => json(response, 202, { result: { jobId: "../../other" } }));
    await fails("Malformed", 200, (_, response) => json(response, 200, queued));
    await fails("TooLarge", 202, (_, response) => json(response, 202, { x: "y".repeat(5000) }), { maxBytes: 1000 });
    await fails("Unreachable", 0, (_, response) => response.writeHead(307, { location: "http://127.0.0.1:1/" }).end());
    await fails("Timeout", 0, (_, response) => json(response, 202, queued));
    await assert.rejects(
      new Relayer({ url: "http://127.0.0.1:1" }).decrypt(decryption()),
      (e: unknown) => e instanceof RelayerError && e.code === "Unreachable",
    );
    assert.throws(() => new Relayer({ url: "file:///etc/passwd" }), TypeError);
  });

  it("shares that are no shares are only rejected", async () => {
    const shares = [null, 7, {}, { share: 1, signature: [], extraData: {} }, ...[1, 2, 3].map((p) => scene.response(p))];
    handler = (request, response) =>
      request.method === "POST" ? json(response, 202, queued) : json(response, 200, collected(shares as UserResponse[], false));
    assert.equal((await new Relayer({ url }).decrypt(decryption())).values[0]!.value, 42n);
  });

  it("can be stopped", async () => {
    handler = (_, response) => json(response, 202, queued, "300");
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 50);
    await assert.rejects(new Relayer({ url }).decrypt(decryption(), { signal: abort.signal }), { name: "AbortError" });
  });
});
