"""A tiny VAE that needs no TensorFlow: plain numpy, and the same arithmetic as ONNX by hand."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vae_edge.bundle import Bundle, sha256_of
from vae_edge.bundle_writer import BundleWriter
from vae_edge.errors import ArtifactError
from vae_edge.golden import GoldenVectors, make_vectors
from vae_edge.manifest import (
    SCHEMA_VERSION,
    AppliedPass,
    ArtifactRecord,
    CalibrationRecord,
    GoldenRecord,
    LatencyRecord,
    LoweringRecord,
    Manifest,
    MetricRecord,
    ModelRecord,
    ParityRecord,
    QuantizationRecord,
    RefusedPass,
    RuntimeRequirement,
)
from vae_edge.preprocessing import PLAIN_PICTURES
from vae_edge.terms import (
    COMPONENT_INPUT,
    COMPONENT_OUTPUTS,
    Component,
    Format,
    Precision,
    Target,
    TensorSpec,
)

IMAGE_SHAPE = (4, 4, 1)
SOURCE_SHA256 = "ab" * 32
LATENT_DIM = 2
PIXELS = 16


@dataclass(frozen=True)
class TinyVAE:
    """Two linear heads, and a linear decoder with a sigmoid."""

    w_mean: np.ndarray
    b_mean: np.ndarray
    w_log_var: np.ndarray
    b_log_var: np.ndarray
    w_decoder: np.ndarray
    b_decoder: np.ndarray

    image_shape = IMAGE_SHAPE
    latent_dim = LATENT_DIM

    @classmethod
    def seeded(cls, seed: int = 11) -> TinyVAE:
        rng = np.random.default_rng(seed)
        shapes = ((PIXELS, LATENT_DIM), (LATENT_DIM,)) * 2 + ((LATENT_DIM, PIXELS), (PIXELS,))
        return cls(*(rng.normal(0, 0.5, shape).astype(np.float32) for shape in shapes))

    def perturbed(self, share: float) -> TinyVAE:
        """The same model with every weight off by `share` of its size, as quantization would."""
        rng = np.random.default_rng(5)
        return TinyVAE(
            *(
                (w * (1 + share * rng.choice([-1, 1], w.shape))).astype(np.float32)
                for w in dataclasses.astuple(self)
            )
        )

    def encode(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        flat = images.reshape(len(images), PIXELS).astype(np.float64)
        z_mean = flat @ self.w_mean + self.b_mean
        z_log_var = flat @ self.w_log_var + self.b_log_var
        return z_mean.astype(np.float32), z_log_var.astype(np.float32)

    def decode(self, z: np.ndarray) -> np.ndarray:
        flat = 1 / (1 + np.exp(-(z.astype(np.float64) @ self.w_decoder + self.b_decoder)))
        return flat.astype(np.float32).reshape(len(z), *IMAGE_SHAPE)

    def golden(self, images: int = 5, prior: int = 3) -> GoldenVectors:
        rng = np.random.default_rng(2)
        return make_vectors(
            lambda rows: dict(zip(("z_mean", "z_log_var"), self.encode(rows), strict=True)),
            lambda z: {"reconstruction": self.decode(z)},
            PLAIN_PICTURES.from_levels(
                rng.integers(0, 256, (images, *IMAGE_SHAPE)).astype(np.uint8)
            ),
            None,
            preprocessing=PLAIN_PICTURES,
            latent_dim=LATENT_DIM,
            prior=prior,
            model_sha256=SOURCE_SHA256,
            rng=rng,
        )

    def onnx(
        self,
        component: Component | str,
        batch: int | None = 1,
        *,
        rename: Mapping[str, str] | None = None,
        dtype: str = "FLOAT",
        baked_batch: int = -1,
    ) -> bytes:
        """One half as an ONNX file.

        Args:
            component: which half.
            batch: fixed, or None for any.
            rename: other names for inputs and outputs.
            dtype: ONNX type at the boundary; cast to and from float inside.
            baked_batch: batch size inside the graph, whatever its boundary says.
        """
        from onnx import TensorProto, checker, helper, numpy_helper

        component = Component(component)
        names = {**{name: name for name in _tensors(component)}, **(rename or {})}
        nodes, weights = [], {}

        def cast(source: str, target: str, to: int) -> None:
            op = "Identity" if dtype == "FLOAT" else "Cast"
            extra = {} if dtype == "FLOAT" else {"to": to}
            nodes.append(helper.make_node(op, [source], [target], **extra))

        def gemm(source: str, target: str, w: np.ndarray, b: np.ndarray) -> None:
            weights[f"{target}_w"], weights[f"{target}_b"] = w, b
            nodes.append(helper.make_node("Gemm", [source, f"{target}_w", f"{target}_b"], [target]))

        def reshape(source: str, target: str, *shape: int) -> None:
            weights[f"{target}_shape"] = np.array(shape, np.int64)
            nodes.append(helper.make_node("Reshape", [source, f"{target}_shape"], [target]))

        outer = getattr(TensorProto, dtype)
        cast(names[COMPONENT_INPUT[component]], "in", TensorProto.FLOAT)
        if component is Component.ENCODER:
            reshape("in", "flat", baked_batch, PIXELS)
            gemm("flat", "mean", self.w_mean, self.b_mean)
            gemm("flat", "log_var", self.w_log_var, self.b_log_var)
            cast("mean", names["z_mean"], outer)
            cast("log_var", names["z_log_var"], outer)
        else:
            gemm("in", "logits", self.w_decoder, self.b_decoder)
            nodes.append(helper.make_node("Sigmoid", ["logits"], ["pixels"]))
            reshape("pixels", "picture", baked_batch, *IMAGE_SHAPE)
            cast("picture", names["reconstruction"], outer)

        def info(name: str) -> Any:
            shape = ["batch" if n is None else n for n in spec_of(name, batch).shape]
            return helper.make_tensor_value_info(names[name], outer, shape)

        model = helper.make_model(
            helper.make_graph(
                nodes,
                str(component),
                [info(COMPONENT_INPUT[component])],
                [info(name) for name in COMPONENT_OUTPUTS[component]],
                [numpy_helper.from_array(array, name) for name, array in weights.items()],
            ),
            opset_imports=[helper.make_opsetid("", 13)],
            ir_version=8,
        )
        checker.check_model(model)
        return bytes(model.SerializeToString())

    def tflite(self, component: Component | str, batch: int | None = 1) -> bytes:
        """One half as a TFLite file."""
        component = Component(component)
        latent, flat = (batch, LATENT_DIM), (batch, PIXELS)
        picture = (batch, *IMAGE_SHAPE)
        if component is Component.ENCODER:
            return tflite_model(
                tensors={
                    "image": TFLiteTensor(picture),
                    "flat": TFLiteTensor(flat),
                    "mean": TFLiteTensor(latent),
                    "log_var": TFLiteTensor(latent),
                    "w_mean": TFLiteTensor.of(self.w_mean.T),
                    "b_mean": TFLiteTensor.of(self.b_mean),
                    "w_log_var": TFLiteTensor.of(self.w_log_var.T),
                    "b_log_var": TFLiteTensor.of(self.b_log_var),
                    "flat_shape": TFLiteTensor.of(np.array([-1, PIXELS], np.int32)),
                },
                operators=[
                    ("RESHAPE", ["image", "flat_shape"], ["flat"]),
                    ("FULLY_CONNECTED", ["flat", "w_mean", "b_mean"], ["mean"]),
                    ("FULLY_CONNECTED", ["flat", "w_log_var", "b_log_var"], ["log_var"]),
                ],
                signatures={
                    "run": ({"image": "image"}, {"z_log_var": "log_var", "z_mean": "mean"})
                },
            )
        return tflite_model(
            tensors={
                "z": TFLiteTensor(latent),
                "logits": TFLiteTensor(flat),
                "pixels": TFLiteTensor(flat),
                "picture": TFLiteTensor(picture),
                "w": TFLiteTensor.of(self.w_decoder.T),
                "b": TFLiteTensor.of(self.b_decoder),
                "shape": TFLiteTensor.of(np.array([-1, *IMAGE_SHAPE], np.int32)),
            },
            operators=[
                ("FULLY_CONNECTED", ["z", "w", "b"], ["logits"]),
                ("LOGISTIC", ["logits"], ["pixels"]),
                ("RESHAPE", ["pixels", "shape"], ["picture"]),
            ],
            signatures={"run": ({"z": "z"}, {"reconstruction": "picture"})},
        )


@dataclass(frozen=True)
class TFLiteTensor:
    """A tensor of a hand-built TFLite file; constant where it has data."""

    shape: tuple[int | None, ...]
    dtype: str = "float32"
    scale: float | None = None
    zero_point: int = 0
    data: np.ndarray | None = None

    @classmethod
    def of(cls, data: np.ndarray) -> TFLiteTensor:
        return cls(data.shape, str(data.dtype), data=data)


def tflite_model(
    tensors: Mapping[str, TFLiteTensor],
    operators: Iterable[tuple[str, list[str], list[str]]],
    signatures: Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]],
) -> bytes:
    """Write a TFLite flatbuffer by hand: `(operator, inputs, outputs)`, by names of tensors.

    A signature maps names at the boundary to tensors. The first one, or the first operator's input
    and the last one's output, are the graph's own inputs and outputs.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as fb

    index = {name: i for i, name in enumerate(tensors)}
    operators = list(operators)
    codes = sorted({getattr(fb.BuiltinOperator, name) for name, _, _ in operators})
    model, graph = fb.ModelT(), fb.SubGraphT()
    model.version, model.buffers = 3, [fb.BufferT()]
    model.operatorCodes, model.subgraphs = [], [graph]
    for code in codes:
        entry = fb.OperatorCodeT()
        entry.builtinCode = entry.deprecatedBuiltinCode = code
        entry.version = 1
        model.operatorCodes.append(entry)
    graph.name, graph.tensors, graph.operators = "main", [], []
    for name, given in tensors.items():
        tensor = fb.TensorT()
        tensor.name = name
        tensor.shape = [n or 1 for n in given.shape]
        if None in given.shape:
            tensor.shapeSignature = [n or -1 for n in given.shape]
        tensor.type = getattr(fb.TensorType, given.dtype.upper())
        if given.scale is not None:
            tensor.quantization = fb.QuantizationParametersT()
            tensor.quantization.scale = [given.scale]
            tensor.quantization.zeroPoint = [given.zero_point]
        if given.data is not None:
            buffer = fb.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(given.data).tobytes(), np.uint8)
            tensor.buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(tensor)
    for kind, inputs, outputs in operators:
        operator = fb.OperatorT()
        code = getattr(fb.BuiltinOperator, kind)
        operator.opcodeIndex = codes.index(code)
        operator.inputs = [index[name] for name in inputs]
        operator.outputs = [index[name] for name in outputs]
        if kind == "FULLY_CONNECTED":
            operator.builtinOptionsType = fb.BuiltinOptions.FullyConnectedOptions
            operator.builtinOptions = fb.FullyConnectedOptionsT()
        graph.operators.append(operator)
    first = next(iter(signatures.values()), None)
    ends = first or ({"in": operators[0][1][0]}, {"out": operators[-1][2][0]})
    graph.inputs, graph.outputs = ([index[name] for name in end.values()] for end in ends)
    model.signatureDefs = []
    for key, sides in signatures.items():
        signature = fb.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = key, 0
        maps = []
        for side in sides:
            entries = []
            for outer, inner in side.items():
                entry = fb.TensorMapT()
                entry.name, entry.tensorIndex = outer, index[inner]
                entries.append(entry)
            maps.append(entries)
        signature.inputs, signature.outputs = maps
        model.signatureDefs.append(signature)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensors(component: Component) -> tuple[str, ...]:
    return (COMPONENT_INPUT[component], *COMPONENT_OUTPUTS[component])


def spec_of(name: str, batch: int | None = 1) -> TensorSpec:
    inner = IMAGE_SHAPE if name in ("image", "reconstruction") else (LATENT_DIM,)
    return TensorSpec(name=name, shape=(batch, *inner), dtype="float32")


def record_of(file: str, content: bytes, batch: int | None) -> ArtifactRecord:
    component, precision, format = file.split(".")
    half = Component(component)
    return ArtifactRecord(
        file=file,
        size_bytes=len(content),
        sha256=sha256_of(content),
        component=half,
        format=Format(format),
        precision=Precision(precision),
        quantization=QuantizationRecord(
            weights="float32",
            weight_granularity="none",
            weights_symmetric=None,
            activations="float32",
            activations_symmetric=None,
            note="nothing is quantized",
        ),
        lowering=LoweringRecord(
            target=Target.ANY,
            applied=(
                AppliedPass(name="fold_batch_norm", layers=("norm",)),
                AppliedPass(name="fuse_activation", layers=("dense", "dense_1")),
            ),
            refused=(
                RefusedPass(name="lower_conv_transpose", layer="upsample", reason="it is dilated"),
            ),
            note="chosen for any processor",
        ),
        inputs=(spec_of(COMPONENT_INPUT[half], batch),),
        outputs=tuple(spec_of(name, batch) for name in COMPONENT_OUTPUTS[half]),
        oldest_runtime=RuntimeRequirement(name="onnxruntime", version="1.19", detail="opset 13"),
        operators={"Gemm": 2, "Reshape": 1},
        float_operators={"Gemm": 2},
        parity=ParityRecord(
            passed=True,
            samples=5,
            runtime="onnxruntime 1.19",
            metrics=(
                MetricRecord(
                    output="z_mean", metric="psnr_db", value=None, limit=100.0, passed=True
                ),
            ),
        ),
        latency=LatencyRecord(
            machine="a desktop",
            runtime="onnxruntime 1.19",
            threads=1,
            batch=1,
            median_ms=0.0125,
            p95_ms=0.02,
            times_faster_than_keras=8.25,
            times_faster_than_float32=None,
        ),
    )


def manifest_of_files(
    contents: Mapping[str, bytes],
    golden: bytes,
    *,
    batch: int | None = 1,
    images: int = 5,
    latents: int = 8,
) -> Manifest:
    return Manifest(
        schema_version=SCHEMA_VERSION,
        model=ModelRecord(
            name="tiny",
            source_sha256=SOURCE_SHA256,
            latent_dim=LATENT_DIM,
            image_shape=IMAGE_SHAPE,
            preprocessing=PLAIN_PICTURES,
        ),
        artifacts=tuple(record_of(file, content, batch) for file, content in contents.items()),
        calibration=CalibrationRecord(source="noise", count=64, seed=3),
        golden=GoldenRecord(
            file="golden.npz",
            size_bytes=len(golden),
            sha256=sha256_of(golden),
            source="noise",
            images=images,
            latents=latents,
        ),
        tools={"vae-edge": "0.1.0"},
    )


PAIR = ("encoder.float32.onnx", "decoder.float32.onnx")


def write_tiny_bundle(
    path: Path,
    vae: TinyVAE,
    files: Iterable[str] = PAIR,
    *,
    batch: int | None = 1,
    contents: Mapping[str, bytes] | None = None,
    golden: GoldenVectors | None = None,
) -> Path:
    """Write a bundle; artifacts that are not float32 get weights that are slightly off."""
    vectors = golden or vae.golden()
    filled = {}
    for file in files:
        component, precision, format = file.split(".")
        model = vae if precision == "float32" else vae.perturbed(0.001)
        given = (contents or {}).get(file)
        build = model.onnx if format == "onnx" else model.tflite
        filled[file] = build(component, batch) if given is None else given
    packed = vectors.to_bytes()
    with BundleWriter(path) as writer:
        for file, content in (*filled.items(), ("golden.npz", packed)):
            writer.add(file, content)
        writer.stage(
            manifest_of_files(
                filled,
                packed,
                batch=batch,
                images=len(vectors.image),
                latents=len(vectors.z),
            )
        )
        writer.publish()
    return path


@pytest.fixture(scope="session")
def tiny() -> TinyVAE:
    return TinyVAE.seeded()


@pytest.fixture
def make_tflite() -> Callable[..., bytes]:
    """`make({name: (shape, dtype, scale, zero_point)}, operators, signatures)` gives a file."""

    def make(tensors: Mapping[str, tuple[Any, ...]], operators: Any, signatures: Any) -> bytes:
        built = {
            name: TFLiteTensor.of(given) if isinstance(given, np.ndarray) else TFLiteTensor(*given)
            for name, given in tensors.items()
        }
        return tflite_model(built, operators, signatures)

    return make


@pytest.fixture
def make_tiny_bundle(tiny: TinyVAE, tmp_path: Path) -> Callable[..., Path]:
    """`make(files=..., batch=..., contents={file: bytes}, golden=..., name=...)` gives a path."""

    def make(files: Iterable[str] = PAIR, *, name: str = "bundle", **options: Any) -> Path:
        return write_tiny_bundle(tmp_path / name, tiny, files, **options)

    return make


@pytest.fixture(scope="session")
def _pristine_bundle(tiny: TinyVAE, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("pristine") / "tiny", tiny)


@pytest.fixture
def tiny_bundle(_pristine_bundle: Path, tmp_path: Path) -> Path:
    """A sound bundle of a float32 ONNX pair, the test's own to damage."""
    return Path(shutil.copytree(_pristine_bundle, tmp_path / "tiny"))


@pytest.fixture
def make_manifest() -> Callable[..., Manifest]:
    """`make({file: content}, golden_bytes)` gives a manifest of files that need not exist."""
    return manifest_of_files


@pytest.fixture
def edit_manifest() -> Callable[[Path, Callable[[Any], Any]], None]:
    """`edit(bundle, change)` lets `change` alter the parsed manifest and writes it back."""

    def edit(bundle: Path, change: Callable[[Any], Any]) -> None:
        path = bundle / "manifest.json"
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return edit


@pytest.fixture
def plant(edit_manifest: Callable[..., None]) -> Callable[[Path, str, bytes], None]:
    """`plant(bundle, file, content)` replaces a file so that size and hash agree again."""

    def replace(bundle: Path, file: str, content: bytes) -> None:
        (bundle / file).write_bytes(content)

        def vouch(document: Any) -> None:
            for record in (*document["artifacts"], document["golden"]):
                if record["file"] == file:
                    record["size_bytes"], record["sha256"] = len(content), sha256_of(content)

        edit_manifest(bundle, vouch)

    return replace


class FakeRunner:
    """A runner whose arithmetic is a Python function; it remembers what it was fed."""

    runtime = "fake 1.0"

    def __init__(
        self,
        component: Component | str,
        function: Callable[[np.ndarray], dict[str, np.ndarray]],
        batch: int | None = 1,
    ) -> None:
        component = Component(component)
        self.name = f"{component}.fake"
        self.inputs = (spec_of(COMPONENT_INPUT[component], batch),)
        self.outputs = tuple(spec_of(name, batch) for name in COMPONENT_OUTPUTS[component])
        self.function = function
        self.fed: list[np.ndarray] = []
        self.closed = 0

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self.closed:
            raise ArtifactError("closed")
        (rows,) = feeds.values()
        self.fed.append(rows.copy())
        return self.function(rows)

    def close(self) -> None:
        self.closed += 1

    def __enter__(self) -> FakeRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture
def fake_runner(tiny: TinyVAE) -> Callable[..., FakeRunner]:
    """`make("encoder", function=..., batch=...)`; by default it computes what the tiny VAE does."""

    def make(
        component: str,
        function: Callable[[np.ndarray], dict[str, np.ndarray]] | None = None,
        batch: int | None = 1,
    ) -> FakeRunner:
        def encode(rows: np.ndarray) -> dict[str, np.ndarray]:
            return dict(zip(("z_mean", "z_log_var"), tiny.encode(rows), strict=True))

        def decode(rows: np.ndarray) -> dict[str, np.ndarray]:
            return {"reconstruction": tiny.decode(rows)}

        default = encode if component == "encoder" else decode
        return FakeRunner(component, function or default, batch)

    return make


@pytest.fixture
def fake_bundle_runners(
    monkeypatch: pytest.MonkeyPatch, fake_runner: Callable[..., FakeRunner]
) -> Callable[..., None]:
    """`install(encoder=function, decoder=function)` makes every artifact run as that function."""

    def install(
        encoder: Callable[[np.ndarray], dict[str, np.ndarray]] | None = None,
        decoder: Callable[[np.ndarray], dict[str, np.ndarray]] | None = None,
    ) -> None:
        functions = {"encoder": encoder, "decoder": decoder}

        def open_runner(_: Bundle, record: ArtifactRecord, threads: int = 1) -> FakeRunner:
            del threads
            component = str(record.component)
            return fake_runner(component, functions[component], batch=None)

        monkeypatch.setattr(Bundle, "open_runner", open_runner)

    return install


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The error message, proven to be one paragraph on stderr and nothing else."""
        assert self.code == 2, self
        assert self.out == "", self
        assert "Traceback" not in self.err, self
        assert self.err.startswith("error: "), self
        assert self.err.count("\n") == 1, self
        return self.err.removeprefix("error: ").strip()


@pytest.fixture
def run_cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """`run("inspect", path)` runs the command line in this process."""
    from vae_edge.cli import main

    def run(*arguments: object) -> Ran:
        capfd.readouterr()
        code: object = None
        with contextlib.suppress(SystemExit):
            try:
                main([str(argument) for argument in arguments])
            except SystemExit as left:
                code = left.code
                raise
        captured = capfd.readouterr()
        return Ran(code=int(code or 0), out=captured.out, err=captured.err)

    return run
