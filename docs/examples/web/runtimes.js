// One way to run a TFLite file (LiteRT.js) and an ONNX file (ONNX Runtime Web), both in WebAssembly.

/**
 * @param {string} file - its name; the ending chooses the runtime.
 * @param {Uint8Array} bytes - its content.
 * @returns {Promise<function(Object<string, {shape: number[], data: Float32Array}>):
 *   Promise<Object<string, Float32Array>>>} named inputs to named outputs.
 */
export async function open(file, bytes) {
  return file.endsWith(".onnx") ? openOnnx(bytes) : openTflite(bytes);
}

async function openOnnx(bytes) {
  const ort = await import("onnxruntime-web");
  ort.env.wasm.numThreads = 1; // more of them need a server that sends COOP and COEP headers
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  return async (inputs) => {
    const feeds = {};
    for (const [name, { shape, data }] of Object.entries(inputs)) {
      feeds[name] = new ort.Tensor("float32", data, shape);
    }
    const outputs = await session.run(feeds);
    return Object.fromEntries(session.outputNames.map((name) => [name, outputs[name].data]));
  };
}

let loading;

async function openTflite(bytes) {
  const { loadAndCompile, loadLiteRt, Tensor } = await import("@litertjs/core");
  loading ??= loadLiteRt("node_modules/@litertjs/core/wasm/");
  await loading;
  const model = await loadAndCompile(bytes, { accelerator: "wasm" });
  return async (inputs) => {
    const feeds = {};
    for (const [name, { shape, data }] of Object.entries(inputs)) {
      feeds[name] = new Tensor(data, shape);
    }
    const outputs = await model.run("serving_default", feeds);
    const read = {};
    for (const [name, tensor] of Object.entries(outputs)) {
      read[name] = tensor.toTypedArray().slice();
      tensor.delete(); // memory of WebAssembly: nothing collects it
    }
    for (const tensor of Object.values(feeds)) tensor.delete();
    return read;
  };
}
