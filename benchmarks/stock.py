"""Stock exports: what the standard tools give for a Keras VAE's halves at their defaults.

One function per tool, one line in `STOCK` per variant. A default is what the tool's own
documentation shows for the case: nothing is tuned. What quantizes statically is calibrated on the
same rows.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.contestants import Engine
from benchmarks.stock_job import Build, StockJob, StockTool
from vae_edge.errors import ExportError, RuntimeMissingError
from vae_edge.terms import FloatArray, Format, Precision

__all__ = [
    "STOCK",
    "ai_edge_quantizer",
    "keras_export",
    "mnn_converter",
    "onnxruntime_dynamic",
    "onnxruntime_static",
    "openvino_runtime",
    "tensorflow_lite",
    "tf2onnx_keras",
]


def tensorflow_lite(job: StockJob, path: Path, *, precision: Precision) -> None:
    """TensorFlow's converter, as its post-training quantization guide sets it per precision."""
    tf = importlib.import_module("tensorflow")
    converter = tf.lite.TFLiteConverter.from_keras_model(job.model)
    if precision is not Precision.FLOAT32:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision is Precision.FLOAT16:
        converter.target_spec.supported_types = [tf.float16]
    if precision in (Precision.INT8, Precision.INT16X8):
        converter.representative_dataset = lambda: ([row[None]] for row in job.rows)
    if precision is Precision.INT16X8:
        sets = tf.lite.OpsSet
        converter.target_spec.supported_ops = [
            sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]
    path.write_bytes(converter.convert())


def keras_export(job: StockJob, path: Path, *, kind: str) -> None:
    """Keras's own `Model.export`."""
    job.model.export(str(path), format=kind, verbose=False)


def tf2onnx_keras(job: StockJob, path: Path) -> None:
    """tf2onnx's `convert.from_keras`: its default opset, its own optimizer."""
    importlib.import_module("tf2onnx").convert.from_keras(job.model, output_path=str(path))


def onnxruntime_dynamic(job: StockJob, path: Path) -> None:
    """ONNX Runtime's `quantize_dynamic`, on tf2onnx's file."""
    tools = importlib.import_module("onnxruntime.quantization")
    tools.quantize_dynamic(str(job.float32(Format.ONNX)), str(path))


def onnxruntime_static(
    job: StockJob, path: Path, *, per_channel: bool = False, unsigned: bool = False
) -> None:
    """ONNX Runtime's `quantize_static` (QDQ), on tf2onnx's file.

    Its defaults are one scale per tensor and signed activations; its documentation advises the
    other of each for quality, and for speed on x86.
    """
    tools = importlib.import_module("onnxruntime.quantization")
    source = job.float32(Format.ONNX)
    kind = tools.QuantType.QUInt8 if unsigned else tools.QuantType.QInt8
    reader = _Reader(source, job.rows)
    tools.quantize_static(
        str(source), str(path), reader, per_channel=per_channel, activation_type=kind
    )


class _Reader:
    """ONNX Runtime's `CalibrationDataReader`, which it takes by its methods."""

    def __init__(self, model: Path, rows: FloatArray) -> None:
        ort = importlib.import_module("onnxruntime")
        session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        self._feeds: Iterator[dict[str, FloatArray]] = iter([{name: row[None]} for row in rows])

    def get_next(self) -> dict[str, FloatArray] | None:
        return next(self._feeds, None)


def ai_edge_quantizer(job: StockJob, path: Path, *, recipe: str) -> None:
    """ai-edge-quantizer's recipe of that name, on the TensorFlow converter's float32 file."""
    _need("ai_edge_quantizer", "ai-edge-quantizer")
    quantizer_module = importlib.import_module("ai_edge_quantizer.quantizer")
    recipes = importlib.import_module("ai_edge_quantizer.recipe")
    litert = importlib.import_module("ai_edge_litert.interpreter")
    content = job.float32(Format.TFLITE).read_bytes()
    quantizer = quantizer_module.Quantizer(content, getattr(recipes, recipe)())
    calibration = None
    if quantizer.need_calibration:
        ((key, ends),) = litert.Interpreter(model_content=content).get_signature_list().items()
        rows = [{ends["inputs"][0]: row[None]} for row in job.rows]
        calibration = quantizer.calibrate({key: rows})
    result = quantizer.quantize(calibration, enable_progress_report=False)
    path.write_bytes(result.quantized_model)


def openvino_runtime(job: StockJob, path: Path) -> None:
    """OpenVINO reads ONNX itself: tf2onnx's file."""
    _need("openvino", "openvino")
    shutil.copyfile(job.float32(Format.ONNX), path)


def mnn_converter(job: StockJob, path: Path) -> None:
    """MNN's converter, on tf2onnx's file."""
    _need("MNN", "MNN")
    options = ["-f", "ONNX", "--modelFile", str(job.float32(Format.ONNX)), "--MNNModel", str(path)]
    # In a process of its own: it prints from C++, and exits where it fails.
    done = subprocess.run(  # noqa: S603  our own interpreter and paths
        [sys.executable, "-m", "MNN.tools.mnnconvert", *options, "--bizCode", "stock"],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if not path.is_file():
        raise ExportError((done.stderr or done.stdout).strip() or "MNN's converter wrote nothing")


def _need(module: str, package: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise RuntimeMissingError(f"not installed: pip install {package}")


def _tflite(tool: str, precision: Precision, suffix: str, build: Build) -> StockTool:
    return StockTool(
        tool=tool,
        format=Format.TFLITE,
        precision=precision,
        suffix=suffix,
        build=build,
        engine=Engine.LITERT,
        baseline=tool == _CONVERTER,
    )


def _onnx(
    tool: str,
    precision: Precision,
    suffix: str,
    build: Build,
    engine: Engine = Engine.ONNXRUNTIME,
) -> StockTool:
    return StockTool(
        tool=tool,
        format=Format.ONNX,
        precision=precision,
        suffix=suffix,
        build=build,
        engine=engine,
        baseline=tool in _ONNX_BASELINES,
    )


def _recipe(recipe: str, precision: Precision) -> StockTool:
    build = partial(ai_edge_quantizer, recipe=recipe)
    return _tflite(f"ai-edge-quantizer {recipe}", precision, f"{recipe}.tflite", build)


_CONVERTER = "TensorFlow converter"
_ONNX_BASELINES = ("tf2onnx", "quantize_dynamic", "quantize_static")
_KERAS = "Keras export"
_FLOAT32, _DYNAMIC, _INT8 = Precision.FLOAT32, Precision.DYNAMIC, Precision.INT8

# What later tools start from comes first.
STOCK: tuple[StockTool, ...] = (
    *(
        _tflite(_CONVERTER, p, f"{p}.tflite", partial(tensorflow_lite, precision=p))
        for p in Precision
        if p is not Precision.INT4  # the converter has no 4-bit weights
    ),
    _onnx("tf2onnx", _FLOAT32, "float32.onnx", tf2onnx_keras),
    _onnx("quantize_dynamic", _DYNAMIC, "dynamic.onnx", onnxruntime_dynamic),
    _onnx("quantize_static", _INT8, "int8.onnx", onnxruntime_static),
    _onnx(
        "quantize_static per channel",
        _INT8,
        "per-channel.onnx",
        partial(onnxruntime_static, per_channel=True),
    ),
    _onnx(
        "quantize_static unsigned",
        _INT8,
        "unsigned.onnx",
        partial(onnxruntime_static, unsigned=True),
    ),
    _tflite(_KERAS, _FLOAT32, "keras.tflite", partial(keras_export, kind="litert")),
    _onnx(_KERAS, _FLOAT32, "keras.onnx", partial(keras_export, kind="onnx")),
    StockTool(
        tool=_KERAS,
        format=None,
        precision=_FLOAT32,
        suffix="saved_model",
        build=partial(keras_export, kind="tf_saved_model"),
        engine=Engine.TENSORFLOW,
    ),
    _recipe("dynamic_wi8_afp32", _DYNAMIC),
    _recipe("weight_only_wi8_afp32", _DYNAMIC),
    _recipe("dynamic_wi4_afp32", Precision.INT4),
    _recipe("static_wi8_ai8", _INT8),
    _recipe("static_wi8_ai16", Precision.INT16X8),
    _onnx("OpenVINO", _FLOAT32, "openvino.onnx", openvino_runtime, Engine.OPENVINO),
    _onnx("MNN", _FLOAT32, "mnn", mnn_converter, Engine.MNN),
)
