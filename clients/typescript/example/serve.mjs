// Serves the built page to this machine only: node serve.mjs CONFIG [PORT]. CONFIG is the JSON file that the page reads as
// config.json. Prints the URL.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";

const [config, port = "0"] = process.argv.slice(2);
if (!config) {
  console.error("usage: node serve.mjs CONFIG [PORT]");
  process.exit(2);
}
const page = new URL("../dist/page/", import.meta.url);
const TYPES = {
  css: "text/css; charset=utf-8",
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  json: "application/json",
  svg: "image/svg+xml",
  wasm: "application/wasm",
};
const HEADERS = {
  "cache-control": "no-store",
  // tfhe's WebAssembly computes in several threads, which browsers allow to isolated pages only.
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
  "cross-origin-resource-policy": "same-origin",
  "content-security-policy":
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; img-src 'self'; " +
    "connect-src 'self' http://127.0.0.1:* http://localhost:*; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
};

const server = createServer(async (request, response) => {
  const path = decodeURIComponent(new URL(request.url, "http://page").pathname).slice(1) || "index.html";
  // tfhe's threads import its folder.
  const name = path === "tfhe" || path === "tfhe/" ? "tfhe/tfhe.js" : path;
  const file = name === "config.json" ? config : new URL(name, page);
  const within = name === "config.json" || file.href.startsWith(page.href);
  try {
    if (!within || (request.method !== "GET" && request.method !== "HEAD")) throw new Error("no such file");
    const bytes = await readFile(file);
    response.writeHead(200, { ...HEADERS, "content-type": TYPES[name.split(".").pop()] ?? "application/octet-stream" });
    response.end(bytes);
  } catch {
    response.writeHead(404, { ...HEADERS, "content-type": "text/plain" }).end("not found\n");
  }
});
server.listen(Number(port), "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/`));
