// Bundles the example page into dist/example: what `serve.mjs` serves besides config.json.
import { cp, mkdir, rm } from "node:fs/promises";
import { build } from "esbuild";

const here = new URL(".", import.meta.url).pathname;
const root = new URL("..", import.meta.url).pathname;
const out = `${root}dist/page`;

// tfhe starts threads from its own files, so it is served as it is and not bundled.
const served = {
  name: "tfhe-is-served",
  setup: (it) => it.onResolve({ filter: /^tfhe$/ }, () => ({ path: "./tfhe/tfhe.js", external: true })),
};

await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
await build({
  entryPoints: { page: `${here}page.ts`, worker: `${root}src/inputs/worker.ts` },
  outdir: out,
  bundle: true,
  format: "esm",
  target: "es2022",
  platform: "browser",
  minify: true,
  plugins: [served],
  logLevel: "warning",
});
for (const name of ["index.html", "style.css", "icon.svg"]) await cp(`${here}${name}`, `${out}/${name}`);
await cp(`${root}node_modules/tfhe`, `${out}/tfhe`, { recursive: true });
