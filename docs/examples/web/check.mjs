// node check.mjs BUNDLE: its ONNX files in ONNX Runtime Web, and what a page has to download.
// Exit code 1 if an artifact is beyond the limits that the manifest records.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

import { checkBundle, table } from "./parity.js";

const DOWNLOADS = {
  "ONNX Runtime Web, WebAssembly": [
    "onnxruntime-web/dist/ort.wasm.min.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
  ],
  "LiteRT.js, WebAssembly": [
    "@litertjs/core/dist/index.js",
    "@litertjs/wasm-utils/dist/bundle.js",
    "@litertjs/core/wasm/litert_wasm_internal.js",
    "@litertjs/core/wasm/litert_wasm_internal.wasm",
  ],
};

async function version(name) {
  const url = new URL(`node_modules/${name}/package.json`, import.meta.url);
  return JSON.parse(await readFile(url)).version;
}

const bundle = process.argv[2] ?? "bundle";
const load = async (file) => {
  const bytes = await readFile(join(bundle, file));
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
};
const rows = await checkBundle(load, "onnx");
console.log(`onnxruntime-web ${await version("onnxruntime-web")}, node ${process.versions.node}\n`);
console.log(table(rows));

console.log("\n| runtime | files | gzip | brotli |\n| --- | --- | --- | --- |");
for (const [name, files] of Object.entries(DOWNLOADS)) {
  const sizes = [0, 0, 0];
  for (const file of files) {
    const bytes = await readFile(new URL(`node_modules/${file}`, import.meta.url));
    sizes[0] += bytes.length;
    sizes[1] += gzipSync(bytes, { level: 9 }).length;
    sizes[2] += brotliCompressSync(bytes, {
      params: { [constants.BROTLI_PARAM_QUALITY]: 9 },
    }).length;
  }
  console.log(`| ${name} | ${sizes.map((n) => `${(n / 1e6).toFixed(1)} MB`).join(" | ")} |`);
}
process.exitCode = rows.length > 0 && rows.every((row) => row.passed) ? 0 : 1;
