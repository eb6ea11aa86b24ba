// node browser.mjs PICTURE.png: both pages in headless Chromium, served by `python3 -m http.server`.
// Prints the table of check.html, moves the mouse over index.html's plane and takes its picture.
// CHROMIUM names the browser, /usr/bin/chromium by default. Exit code 1 if anything failed.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

import puppeteer from "puppeteer-core";

const PORT = 8765;
const picture = process.argv[2] ?? "latent-plane.png";
const server = spawn("python3", ["-m", "http.server", "--bind", "127.0.0.1", String(PORT)], {
  cwd: fileURLToPath(new URL(".", import.meta.url)),
  stdio: ["ignore", "ignore", "pipe"],
});
const log = [];
server.stderr.on("data", (line) => log.push(String(line)));

/** Waits until the server answers; anything else that answers on this port is an error. */
async function ready() {
  for (let tries = 0; tries < 50; tries += 1) {
    if (server.exitCode !== null) throw new Error(`no server: ${log.join("")}`);
    const answer = await fetch(`http://127.0.0.1:${PORT}/check.html`).catch(() => null);
    if (answer?.ok) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`the server does not answer: ${log.join("")}`);
}

async function parity(browser) {
  const page = await browser.newPage();
  page.on("pageerror", (error) => console.error(error));
  await page.goto(`http://127.0.0.1:${PORT}/check.html`);
  await page.waitForFunction(() => document.body.dataset.done, { timeout: 300_000 });
  console.log(await page.$eval("#result", (element) => element.textContent));
  return page.evaluate(() => document.body.dataset.done === "passed");
}

async function plane(browser, model) {
  const page = await browser.newPage();
  page.on("pageerror", (error) => console.error(error));
  await page.setViewport({ width: 552, height: 368 });
  await page.goto(`http://127.0.0.1:${PORT}/index.html?model=bundle/${model}`);
  await page.waitForFunction(() => document.body.dataset.ready, { timeout: 60_000 });
  const text = () => page.$eval("#text", (element) => element.textContent);
  const before = await text();
  const box = await (await page.$("#plane")).boundingBox();
  await page.mouse.move(box.x + 0.75 * box.width, box.y + 0.25 * box.height);
  await page.waitForFunction(
    (old) => document.getElementById("text").textContent !== old,
    { timeout: 10_000 },
    before,
  );
  console.log(`${model}: ${before}, and with the mouse elsewhere ${await text()}`);
  return page;
}

let passed = false;
try {
  await ready();
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: process.getuid?.() === 0 ? ["--no-sandbox"] : [], // Chromium has no sandbox for root
  });
  try {
    console.log(`${await browser.version()}\n`);
    passed = await parity(browser);
    await plane(browser, "decoder.int8.tflite");
    await (await plane(browser, "decoder.int8.onnx")).screenshot({ path: picture });
  } finally {
    await browser.close();
  }
} finally {
  server.kill();
  await once(server, "exit");
}
process.exitCode = passed ? 0 : 1;
