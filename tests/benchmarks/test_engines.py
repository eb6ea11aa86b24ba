"""Bare runtime calls on the tiny VAE, whose arithmetic numpy repeats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.bare import Call, FloatOutputs, output_order, run_rows
from benchmarks.contestants import OURS, Contestant, Engine, from_bundle
from benchmarks.engines import open_bare
from vae_edge.bundle import Bundle
from vae_edge.errors import ArtifactError
from vae_edge.terms import Component, FloatArray, Format, Precision

MakeBundle = Callable[..., Path]
ROW_SHAPES = {Component.ENCODER: (4, 4, 1), Component.DECODER: (2,)}


class Doubling(FloatOutputs):
    """A decoder that doubles z, and remembers what it was fed."""

    def __init__(self) -> None:
        super().__init__("fake 1.0")
        self.fed: list[FloatArray] = []

    def prepare(self, rows: FloatArray) -> Call:
        def call() -> Sequence[Any]:
            self.fed.append(rows)
            return [rows * 2]

        return call


def test_rows_run_in_the_measured_batch_and_the_last_is_filled_up() -> None:
    bare, rows = Doubling(), np.arange(10, dtype=np.float32).reshape(5, 2)
    outputs = run_rows(bare, Component.DECODER, rows, 2)
    np.testing.assert_array_equal(outputs["reconstruction"], rows * 2)
    assert [len(fed) for fed in bare.fed] == [2, 2, 2]
    np.testing.assert_array_equal(bare.fed[-1], rows[[4, 4]])


def test_outputs_are_found_by_name_in_any_order() -> None:
    assert output_order(Component.ENCODER, ["z_log_var", "z_mean"]) == (1, 0)
    assert output_order(Component.ENCODER, ["m/z_mean/Add:0", "m/z_log_var/Add:0"]) == (0, 1)
    assert output_order(Component.DECODER, ["Identity:0"]) == (0,)


@pytest.mark.parametrize("names", [["a", "b"], ["z_mean"], ["z_mean", "z_mean_1", "z_log_var"]])
def test_outputs_that_cannot_be_told_apart_are_an_error(names: list[str]) -> None:
    with pytest.raises(ArtifactError, match=r"expected the outputs z_mean, z_log_var"):
        output_order(Component.ENCODER, names)


@pytest.fixture(params=["onnx", "tflite"])
def pair(request: pytest.FixtureRequest, make_tiny_bundle: MakeBundle) -> list[Contestant]:
    files = [f"{half}.float32.{request.param}" for half in ("encoder", "decoder")]
    return list(from_bundle(Bundle.open(make_tiny_bundle(files))))


@pytest.mark.host
def test_bare_calls_compute_what_the_model_does(pair: list[Contestant], tiny: Any) -> None:
    rng = np.random.default_rng(0)
    rows = {c: rng.random((3, *shape), np.float32) for c, shape in ROW_SHAPES.items()}
    got = {}
    for contestant in pair:
        half = contestant.component
        bare = open_bare(contestant, ROW_SHAPES[half], batch=1)
        got.update(run_rows(bare, half, rows[half], 1))
        assert bare.runtime.startswith(("onnxruntime ", "ai-edge-litert "))
    z_mean, z_log_var = tiny.encode(rows[Component.ENCODER])
    np.testing.assert_allclose(got["z_mean"], z_mean, atol=1e-5)
    np.testing.assert_allclose(got["z_log_var"], z_log_var, atol=1e-5)
    np.testing.assert_allclose(
        got["reconstruction"], tiny.decode(rows[Component.DECODER]), atol=1e-5
    )


@pytest.mark.host
def test_outputs_of_earlier_calls_are_kept(pair: list[Contestant]) -> None:
    bare = open_bare(pair[1], ROW_SHAPES[Component.DECODER], batch=1)
    first = bare.prepare(np.zeros((1, 2), np.float32))()
    before = [output.copy() for output in first]
    bare.prepare(np.full((1, 2), 3, np.float32))()
    np.testing.assert_array_equal(first, before)


@pytest.mark.host
def test_another_batch_than_the_file_s_is_refused(make_tiny_bundle: MakeBundle) -> None:
    encoder, _ = from_bundle(Bundle.open(make_tiny_bundle()))
    with pytest.raises(ArtifactError, match=r"at batch 8: its batch is fixed at 1"):
        open_bare(encoder, ROW_SHAPES[Component.ENCODER], batch=8)


@pytest.mark.host
def test_a_file_that_does_not_load_is_named(tmp_path: Path) -> None:
    path = tmp_path / "decoder.float32.tflite"
    path.write_bytes(b"not a model at all")
    broken = Contestant(
        tool="stock",
        component=Component.DECODER,
        format=Format.TFLITE,
        precision=Precision.FLOAT32,
        engine=Engine.LITERT,
        baseline=True,
        path=path,
    )
    with pytest.raises(ArtifactError, match=r"decoder float32 tflite, stock: LiteRT cannot load"):
        open_bare(broken, (2,), batch=1)


def test_what_is_in_a_bundle_is_ours(make_tiny_bundle: MakeBundle) -> None:
    path = make_tiny_bundle()
    encoder, decoder = from_bundle(Bundle.open(path))
    assert (encoder.tool, encoder.ours, encoder.baseline) == (OURS, True, False)
    assert encoder.engine is Engine.ONNXRUNTIME
    assert decoder.path == path / "decoder.float32.onnx"
