/**
 * Time from 13 responses of a uint256, 4 of them signed but wrong, to the value, signatures checked, in this process. The
 * first run of a fresh process is printed apart: a page often does it once.
 */

import { UserDecryption } from "../src/index.js";
import { floodBound } from "../src/rounding.js";
import { Scene, domain, random } from "../test/support.js";

const value = 0x123456789abcdef0fedcba9876543210aabbccddeeff00112233445566778899n;
const next = random(5);
const scene = new Scene(13, 4, [{ type: 8, value }], floodBound(13, 4));
const responses = Array.from({ length: 13 }, (_, i) =>
  scene.response(i + 1, i % 3 === 0 && i < 12 ? { words: scene.wrongWords(i + 1, next) } : {}),
);

function run(): { wall: number; cpu: number } {
  const before = process.cpuUsage();
  const start = performance.now();
  const decryption = new UserDecryption({ parties: scene.parties, domain, request: scene.request, keys: scene.keys });
  for (const response of responses) decryption.add(response);
  const { values, progress } = decryption.reconstruct();
  const wall = performance.now() - start;
  const { user, system } = process.cpuUsage(before);
  if (values[0]!.value !== value || progress.wrong.map((w) => w.party).join() !== "1,4,7,10") throw new Error("wrong result");
  return { wall, cpu: (user + system) / 1000 };
}

const first = run();
const runs = Array.from({ length: 30 }, run);
const p50 = (times: number[]) => times.sort((a, b) => a - b)[Math.floor(times.length / 2)]!;
const name = "client.reconstruct.uint256.n13.js";
if (process.argv.includes("--json")) {
  const what = "a uint256 from 13 responses, 4 of them signed but wrong, in Node: signatures, ML-KEM, AES-GCM and robust decoding";
  const figures = [
    { name, value: p50(runs.map((r) => r.wall)), unit: "ms", note: `${what}; median of 30 in a process that did it before` },
    { name: `${name}.first`, value: first.wall, unit: "ms", note: `${what}; the first one of a process` },
  ];
  console.log(JSON.stringify(figures));
} else {
  console.log(
    `${name} p50 ${p50(runs.map((r) => r.wall)).toFixed(1)} ms, first ${first.wall.toFixed(1)} ms ` +
      `(processor time: p50 ${p50(runs.map((r) => r.cpu)).toFixed(1)} ms, first ${first.cpu.toFixed(1)} ms)`,
  );
}
