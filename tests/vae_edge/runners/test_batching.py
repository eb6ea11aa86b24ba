from __future__ import annotations

import numpy as np
import pytest

from vae_edge.errors import ArtifactError
from vae_edge.preprocessing import PLAIN_PICTURES
from vae_edge.runners.batching import run_batched
from vae_edge.runners.onnxruntime import open_onnx
from vae_edge.terms import TensorSpec


def rows(count):
    return np.random.default_rng(count).normal(size=(count, 2)).astype(np.float32)


@pytest.mark.parametrize(
    ("batch", "count", "fed"),
    [
        (1, 3, [1, 1, 1]),
        (4, 4, [4]),
        (4, 10, [4, 4, 4]),
        (4, 1, [4]),
        (None, 1, [1]),
        (None, 32, [32]),
        (None, 33, [32, 1]),
        (None, 80, [32, 32, 16]),
    ],
)
def test_rows_go_through_in_chunks_and_come_back_in_order(fake_runner, tiny, batch, count, fed):
    runner = fake_runner("decoder", batch=batch)
    z = rows(count)

    outputs = run_batched(runner, z)

    assert [len(chunk) for chunk in runner.fed] == fed
    np.testing.assert_array_equal(outputs["reconstruction"], tiny.decode(z))


def test_last_chunk_is_filled_with_its_last_row(fake_runner):
    runner = fake_runner("decoder", batch=4)
    z = rows(6)

    run_batched(runner, z)

    np.testing.assert_array_equal(runner.fed[1], z[[4, 5, 5, 5]])


def test_every_output_is_given(fake_runner, tiny):
    images = tiny.golden().images(PLAIN_PICTURES)

    outputs = run_batched(fake_runner("encoder", batch=4), images)

    assert list(outputs) == ["z_mean", "z_log_var"]
    for values, expected in zip(outputs.values(), tiny.encode(images), strict=True):
        np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("batch", [1, 4, None])
def test_no_rows_give_empty_outputs_without_running(fake_runner, batch):
    runner = fake_runner("decoder", batch=batch)

    outputs = run_batched(runner, rows(0))

    assert runner.fed == []
    assert outputs["reconstruction"].shape == (0, 4, 4, 1)
    assert outputs["reconstruction"].dtype == np.float32


@pytest.mark.parametrize("batch", [1, 4, None])
def test_a_real_runtime_agrees_for_any_count(tiny, batch):
    pytest.importorskip("onnxruntime")
    z = rows(37)

    with open_onnx(tiny.onnx("decoder", batch), "x", 1) as runner:
        values = run_batched(runner, z)["reconstruction"]

    np.testing.assert_allclose(values, tiny.decode(z), atol=1e-6)


@pytest.mark.parametrize("shape", [(2,), (3, 3), (3, 2, 1)])
def test_rows_of_another_shape_are_refused(fake_runner, shape):
    with pytest.raises(
        ArtifactError, match=r"decoder\.fake: 'z' expects rows of shape \(count, 2\); received"
    ):
        run_batched(fake_runner("decoder"), np.zeros(shape, np.float32))


def test_free_inner_axis_takes_any_size(fake_runner):
    runner = fake_runner("decoder", lambda z: {"reconstruction": z})
    runner.inputs = (TensorSpec(name="z", shape=(1, None), dtype="float32"),)

    assert run_batched(runner, np.ones((2, 7), np.float32))["reconstruction"].shape == (2, 7)
    with pytest.raises(ArtifactError, match=r"\(count, any\)"):
        run_batched(runner, np.ones((2, 7, 1), np.float32))


def test_second_input_is_refused(fake_runner):
    runner = fake_runner("decoder")
    runner.inputs *= 2

    with pytest.raises(ArtifactError, match=r"decoder\.fake: expected one input; it has 2"):
        run_batched(runner, rows(1))
