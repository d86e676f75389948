// Bundles what a page needs to decrypt, minified, and prints its size. Fails above the reach of 150 KB gzip.
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const entry = `export { KeyPair, createPermit, permitTypedData, UserDecryption, Relayer } from "./src/index.ts";`;
const result = await build({
  stdin: { contents: entry, resolveDir: new URL("..", import.meta.url).pathname, loader: "ts" },
  bundle: true,
  format: "esm",
  target: "es2022",
  platform: "browser",
  minify: true,
  write: false,
  metafile: true,
});
const [file] = result.outputFiles;
const gzip = gzipSync(file.contents, { level: 9 }).length;
if (process.argv.includes("--parts")) {
  const [output] = Object.values(result.metafile.outputs);
  const parts = Object.entries(output.inputs).sort(([, a], [, b]) => b.bytesInOutput - a.bytesInOutput);
  for (const [name, { bytesInOutput }] of parts.slice(0, 25)) console.log(String(bytesInOutput).padStart(8), name);
}
const kb = (bytes) => (bytes / 1000).toFixed(1);
const name = "client.bundle.gzip_kb";
if (process.argv.includes("--json")) {
  const note = "what a page needs to decrypt (key pair, permit, relayer, reconstruction), minified by esbuild, gzip -9";
  console.log(JSON.stringify([{ name, value: Number(kb(gzip)), unit: "KB", note }]));
} else {
  console.log(`${name} ${kb(gzip)} (minified ${kb(file.contents.length)} KB)`);
}
process.exitCode = gzip > 150_000 ? 1 : 0;
