"""What an ONNX artifact cannot take less than: `python -m benchmarks.floors FILE...`.

Times, in turns and in one process at one thread, each file, a call of ONNX Runtime that computes
nothing, and every integer convolution and product of the file in a model of its own, with its
channels last as ONNX Runtime computes it inside the file. An operator's own time is the median over
rounds of its call less the empty call of the same round.

    floor = empty call + own times of the integer operators

is what is left of the file's time if all else in it took none.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.interleaved import Timed, difference_us, time_in_turns
from benchmarks.latency import WARMUP_ROUNDS
from benchmarks.statistics import taken
from vae_edge.errors import ArtifactError, VaeEdgeError

__all__ = ["Floor", "Piece", "floors", "main", "pieces"]

_KINDS = ("QLinearConv", "MatMulInteger")
_FIRST, _LAST = [0, 3, 1, 2], [0, 2, 3, 1]
_FATAL_ONLY = 4
_MIN_SAMPLE_MS = 2.0


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One operator as a model.

    Attributes:
        name: its kind, and the shapes of its input and weights.
        model: ONNX.
    """

    name: str
    model: bytes


@dataclass(frozen=True, kw_only=True)
class Floor:
    """A file's time, and what it cannot go below.

    Attributes:
        file: its path.
        median_us: of one call.
        empty_us: median of a call that computes nothing.
        own_us: each integer operator's name, and its time without the call's.
    """

    file: Path
    median_us: float
    empty_us: float
    own_us: tuple[tuple[str, float], ...]

    @property
    def floor_us(self) -> float:
        """An empty call and the integer operators."""
        return self.empty_us + sum(time for _, time in self.own_us)


def pieces(path: Path) -> tuple[Piece, ...]:
    """Cut the integer operators out of an ONNX file, each as a model of its own.

    Args:
        path: of the file, with weights inside and shapes that can be inferred.

    Raises:
        ArtifactError: it cannot be read.
    """
    onnx: Any = importlib.import_module("onnx")
    try:
        model = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
    except Exception as error:
        raise ArtifactError(f"{path}: cannot be read as ONNX: {error}") from error
    values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    types = {value.name: value.type.tensor_type for value in values}
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    return tuple(
        _piece(onnx, model, node, types, weights)
        for node in model.graph.node
        if node.op_type in _KINDS
    )


def _piece(onnx: Any, model: Any, node: Any, types: Any, weights: Any) -> Piece:
    source = types[node.input[0]]
    shape = [dim.dim_value or 1 for dim in source.shape.dim]
    weight = next(list(weights[n].dims) for n in node.input[1:] if len(weights[n].dims) > 1)
    helper = onnx.helper
    nodes, ends = [node], (node.input[0], node.output[0])
    seen = shape
    if node.op_type == "QLinearConv":
        # Channels last outside, as the other operators of the file have them.
        seen = [shape[axis] for axis in _LAST]
        ends = ("piece_input", "piece_output")
        nodes = [
            helper.make_node("Transpose", [ends[0]], [node.input[0]], perm=_FIRST),
            node,
            helper.make_node("Transpose", [node.output[0]], [ends[1]], perm=_LAST),
        ]
    made = onnx.TensorProto.INT32 if node.op_type == "MatMulInteger" else source.elem_type
    graph = helper.make_graph(
        nodes,
        "piece",
        [helper.make_tensor_value_info(ends[0], source.elem_type, seen)],
        [helper.make_tensor_value_info(ends[1], made, None)],
        initializer=[weights[name] for name in dict.fromkeys(node.input) if name in weights],
    )
    return Piece(
        name=f"{node.op_type} {'x'.join(map(str, seen))} by {'x'.join(map(str, weight))}",
        model=_serialized(onnx, graph, model.opset_import, model.ir_version),
    )


def _serialized(onnx: Any, graph: Any, opsets: Any, ir_version: int) -> bytes:
    made = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
    return bytes(made.SerializeToString())


def _empty() -> bytes:
    onnx: Any = importlib.import_module("onnx")
    value = onnx.helper.make_tensor_value_info
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "empty",
        [value("x", kind, [1, 2])],
        [value("y", kind, [1, 2])],
    )
    return _serialized(onnx, graph, [onnx.helper.make_opsetid("", 18)], 8)


def _call(content: bytes) -> Callable[[], object]:
    ort: Any = importlib.import_module("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    shape = [n if isinstance(n, int) else 1 for n in source.shape]
    dtype = {"tensor(uint8)": np.uint8, "tensor(int8)": np.int8}.get(source.type, np.float32)
    rng = np.random.default_rng(0)
    feeds = {source.name: (100 * rng.random(shape)).astype(dtype)}
    run = session.run
    return lambda: run(None, feeds)


def floors(paths: Sequence[Path], *, rounds: int, seed: int = 0) -> tuple[Floor, ...]:
    """Measure files beside their integer operators.

    Args:
        paths: of ONNX artifacts.
        rounds: samples of each.
        seed: of the order.

    Raises:
        ArtifactError: a file cannot be read or run.
    """
    cut = [(path, pieces(path)) for path in paths]
    contents = [_empty()]
    for path, parts in cut:
        contents += [path.read_bytes(), *(part.model for part in parts)]
    try:
        calls = [_call(content) for content in contents]
    except (ImportError, ValueError, RuntimeError) as error:
        raise ArtifactError(f"ONNX Runtime cannot run an operator alone: {error}") from error
    timed = iter(
        time_in_turns(
            calls,
            rounds=rounds,
            warmup_rounds=WARMUP_ROUNDS,
            min_sample_ms=_MIN_SAMPLE_MS,
            seed=seed,
        )
    )
    empty = next(timed)
    return tuple(
        Floor(
            file=path,
            median_us=_median_us(next(timed)),
            empty_us=_median_us(empty),
            own_us=tuple((part.name, difference_us(next(timed), empty)) for part in parts),
        )
        for path, parts in cut
    )


def _median_us(timed: Timed) -> float:
    return float(np.median(taken(timed.samples_ns))) / 1e3


def table(found: Sequence[Floor]) -> str:
    """Give one Markdown table per file."""
    blocks = []
    for each in found:
        rows = [
            ("the whole file", each.median_us),
            ("a call that computes nothing", each.empty_us),
            *each.own_us,
            ("floor: that call and these operators", each.floor_us),
        ]
        lines = [f"| {each.file.name} | µs |", "| --- | --- |"]
        lines += [f"| {name} | {time:.1f} |" for name, time in rows]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a program; Markdown on stdout.

    Returns:
        0; 2 where it could not run.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.floors", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="ONNX artifacts")
    parser.add_argument("--rounds", type=int, default=40, help="samples of each, 2 or more")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 2:
        parser.error("--rounds must be 2 or more")
    try:
        found = floors(arguments.files, rounds=arguments.rounds)
    except VaeEdgeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"error: {error.filename}: {error.strerror}.\n")
        return 2
    sys.stdout.write(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
