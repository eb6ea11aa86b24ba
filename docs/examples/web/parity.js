// Runs artifacts of a bundle on its golden vectors: how far from the Keras model are they here?

import { readNpz } from "./npz.js";
import { open } from "./runtimes.js";

/** 8-bit levels as the encoder takes them: divided by 255, then scaled as the manifest says. */
function toInput(levels, { input }) {
  if (levels instanceof Float32Array) return levels; // of a model that takes no pictures
  const { scale, offset } = input;
  const channels = scale.length; // 1 where one scale serves all of them
  return Float32Array.from(
    levels,
    (level, i) => (level / 255) * scale[i % channels] + offset[i % channels],
  );
}

/**
 * @param {function(string): Promise<ArrayBuffer>} load - gives a file of the bundle.
 * @param {string} format - "onnx" or "tflite".
 * @returns {Promise<object[]>} a row per artifact and output: the errors here, those that the
 *   manifest recorded with the native runtime, and its limits.
 */
export async function checkBundle(load, format) {
  const manifest = JSON.parse(new TextDecoder().decode(await load("manifest.json")));
  const golden = await readNpz(await load(manifest.golden.file));
  const { shape, data } = golden.image;
  const image = { name: "image", shape, data: toInput(data, manifest.model.preprocessing) };
  const z = { name: "z", ...golden.z };
  const rows = [];
  for (const artifact of manifest.artifacts.filter((each) => each.format === format)) {
    const bytes = new Uint8Array(await load(artifact.file));
    const run = await open(artifact.file, bytes);
    const feed = artifact.component === "encoder" ? image : z;
    const outputs = await runRows(run, feed);
    for (const { name } of artifact.outputs) {
      // The manifest has posteriors and samples of the prior apart; `golden.z` holds both.
      const judged = [name, ...(name === "reconstruction" ? ["generation"] : [])];
      const recorded = (metric) =>
        artifact.parity.metrics.filter(
          (each) => judged.includes(each.output) && each.metric === metric,
        );
      const wanted = golden[name].data;
      const range = name === "reconstruction" ? 1 : Math.max(...wanted) - Math.min(...wanted);
      const here = errors(wanted, outputs[name], range);
      rows.push({
        file: artifact.file,
        bytes: bytes.length,
        output: name,
        ...here,
        native: Math.max(...recorded("max_abs_error").map((each) => each.value)),
        passed: ["max_abs_error", "rmse"].every((metric) => {
          // The loosest of the two: a row that only one of them holds is not judged by the other.
          const limit = Math.max(...recorded(metric).map((each) => each.limit ?? Infinity));
          return here[metric] <= limit; // false for NaN
        }),
      });
    }
  }
  return rows;
}

/** One row at a time: an artifact's batch is 1 unless it was exported otherwise. */
async function runRows(run, { name, shape, data }) {
  const size = data.length / shape[0];
  const outputs = {};
  for (let row = 0; row < shape[0]; row += 1) {
    const input = { shape: [1, ...shape.slice(1)], data: data.slice(row * size, (row + 1) * size) };
    for (const [key, values] of Object.entries(await run({ [name]: input }))) {
      outputs[key] ??= new Float32Array(values.length * shape[0]);
      outputs[key].set(values, row * values.length);
    }
  }
  return outputs;
}

/** In units of the range of the reference's values, as vae-edge parity has it (images: 1). */
function errors(reference, candidate, range) {
  if (reference.length !== candidate?.length) return { max_abs_error: NaN, rmse: NaN };
  let largest = 0;
  let squares = 0;
  for (let i = 0; i < reference.length; i += 1) {
    const error = Math.abs(reference[i] - candidate[i]);
    largest = Number.isNaN(error) ? NaN : Math.max(largest, error); // Math.max keeps a NaN
    squares += error * error;
  }
  return { max_abs_error: largest / range, rmse: Math.sqrt(squares / reference.length) / range };
}

/** The rows as a Markdown table. */
export function table(rows) {
  const short = (value) => value.toExponential(1);
  const lines = rows.map(
    (row) =>
      `| ${row.file} | ${(row.bytes / 1000).toFixed(1)} KB | ${row.output} | ` +
      `${short(row.max_abs_error)} | ${short(row.native)} | ${short(row.rmse)} | ` +
      `${row.passed ? "passed" : "FAILED"} |`,
  );
  return [
    "| file | size | output | largest error | the same, native | RMSE | limits |",
    "| --- | --- | --- | --- | --- | --- | --- |",
    ...lines,
  ].join("\n");
}
