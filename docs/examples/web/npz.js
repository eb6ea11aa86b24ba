// Reads the arrays of an .npz file: a zip whose members are .npy files. For node 20 and browsers.

const TYPES = {
  "|u1": Uint8Array,
  "<i2": Int16Array,
  "<f4": Float32Array,
};

/** @returns {Promise<Object<string, {shape: number[], data: TypedArray}>>} numeric arrays, by name */
export async function readNpz(buffer) {
  const view = new DataView(buffer);
  const text = (offset, length) => new TextDecoder().decode(new Uint8Array(buffer, offset, length));
  let end = buffer.byteLength - 22;
  while (view.getUint32(end, true) !== 0x06054b50) end -= 1;
  let entry = view.getUint32(end + 16, true);
  const arrays = {};
  for (let left = view.getUint16(end + 10, true); left > 0; left -= 1) {
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((at) =>
      view.getUint16(entry + at, true),
    );
    const local = view.getUint32(entry + 42, true);
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    const packed = buffer.slice(start, start + view.getUint32(entry + 20, true));
    const bytes = view.getUint16(entry + 10, true) === 0 ? packed : await inflate(packed);
    const array = readNpy(bytes);
    if (array) arrays[text(entry + 46, nameLength).replace(/\.npy$/, "")] = array;
    entry += 46 + nameLength + extraLength + commentLength;
  }
  return arrays;
}

async function inflate(packed) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Response(stream).arrayBuffer();
}

/** Version 1 of the format; null for types that are not numbers. */
function readNpy(buffer) {
  const length = new DataView(buffer).getUint16(8, true);
  const header = new TextDecoder().decode(new Uint8Array(buffer, 10, length));
  const Type = TYPES[/'descr': '([^']*)'/.exec(header)[1]];
  if (!Type) return null;
  const shape = /'shape': \(([^)]*)\)/.exec(header)[1].split(",").filter((n) => n.trim());
  return { shape: shape.map(Number), data: new Type(buffer.slice(10 + length)) };
}
