// Draws digits from the latent plane, and the one under the mouse.
// The page's address says which decoder: index.html?model=bundle/decoder.float32.tflite

import { open } from "./runtimes.js";

const SIDE = 28; // of an image, in pixels
const TILES = 12; // of the plane, in each direction
const REACH = 2.5; // standard deviations of the prior, to each side of 0

const file = new URLSearchParams(location.search).get("model") ?? "bundle/decoder.int8.onnx";
const plane = document.getElementById("plane");
const digit = document.getElementById("digit").getContext("2d");
const text = document.getElementById("text");

const response = await fetch(file);
if (!response.ok) {
  text.textContent = `${file}: ${response.status} ${response.statusText}`;
  throw new Error(text.textContent);
}
const run = await open(file, new Uint8Array(await response.arrayBuffer()));

async function decode(z) {
  const outputs = await run({ z: { shape: [1, 2], data: Float32Array.from(z) } });
  return outputs.reconstruction; // 784 grey levels in [0, 1], row by row
}

function draw(context, pixels, x, y) {
  const image = context.createImageData(SIDE, SIDE);
  pixels.forEach((level, i) => {
    image.data.fill(Math.round(255 * level), 4 * i, 4 * i + 3); // red, green and blue
    image.data[4 * i + 3] = 255; // opaque
  });
  context.putImageData(image, x, y);
}

/** The latent point of a place in the plane: x to the right, y upwards, each from 0 to 1. */
const latent = (x, y) => [REACH * (2 * x - 1), REACH * (2 * y - 1)];

const context = plane.getContext("2d");
for (let row = 0; row < TILES; row += 1) {
  for (let column = 0; column < TILES; column += 1) {
    const z = latent((column + 0.5) / TILES, 1 - (row + 0.5) / TILES);
    draw(context, await decode(z), column * SIDE, row * SIDE);
  }
}

let wanted = null; // the newest place of the mouse; those that were passed by are not drawn
let busy = false;

async function follow(z) {
  wanted = z;
  if (busy) return;
  busy = true;
  while (wanted) {
    const now = wanted;
    wanted = null;
    draw(digit, await decode(now), 0, 0);
    text.textContent = `z = (${now.map((value) => value.toFixed(2)).join(", ")})`;
  }
  busy = false;
}

plane.addEventListener("mousemove", (event) => {
  const box = plane.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  follow(latent(x / box.width, 1 - y / box.height));
});
await follow([0, 0]);
document.body.dataset.ready = file;
