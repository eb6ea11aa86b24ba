// node check.mjs: compiles the Kotlin of docs/android.md against stubs of the runtimes' interfaces.
// Needs a Java of 17 or newer. It proves names, types and nullability, and runs nothing.

import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const page = readFileSync(here("../../android.md"), "utf8");
const blocks = [...page.matchAll(/```kotlin\n(.*?)```/gs)].map((match) => match[1]);
if (blocks.length === 0) throw new Error("docs/android.md: no Kotlin found");

rmSync(here("build"), { recursive: true, force: true });
mkdirSync(here("build"));
const files = blocks.map((code, i) => {
  const file = here(`build/Block${i + 1}.kt`);
  writeFileSync(file, code);
  return file;
});
const stubs = readdirSync(here("stubs"), { recursive: true })
  .filter((file) => /\.(kt|java)$/.test(file))
  .map((file) => here(`stubs/${file}`));
execFileSync(
  "bash",
  [here("node_modules/kotlin-compiler/bin/kotlinc"), "-Werror", ...stubs, ...files, "-d", here("build/classes")],
  { stdio: "inherit" },
);
console.log(`${blocks.length} blocks compiled`);
