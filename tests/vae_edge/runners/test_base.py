from __future__ import annotations

import numpy as np
import pytest

from vae_edge.errors import ArtifactError
from vae_edge.runners.base import Runner, RunnerBase, check_feeds, dequantize, quantize
from vae_edge.terms import TensorSpec

IMAGE = TensorSpec(name="image", shape=(None, 2), dtype="float32")
Z = TensorSpec(name="z", shape=(1, 3), dtype="float32")


def f32(*shape):
    return np.zeros(shape, np.float32)


def q(dtype="int8", scale=0.5, zero_point=-3):
    return TensorSpec(name="z", shape=(1, 3), dtype=dtype, scale=scale, zero_point=zero_point)


def quantized(spec, *values):
    stored = quantize(np.array(values, np.float32), spec)
    assert stored.dtype == np.dtype(spec.dtype)
    return stored.tolist()


def test_feeds_that_fit_pass():
    check_feeds("x", (IMAGE, Z), {"z": f32(1, 3), "image": f32(5, 2)})


@pytest.mark.parametrize(
    ("feeds", "received"),
    [
        ({}, "nothing"),
        ({"image": f32(1, 2)}, "image"),
        ({"image": f32(1, 2), "y": f32(1, 3)}, "image, y"),
        ({"image": f32(1, 2), "z": f32(1, 3), "y": f32(1)}, "image, z, y"),
    ],
)
def test_missing_and_unknown_inputs_are_refused(feeds, received):
    with pytest.raises(ArtifactError, match=f"x: expects the inputs image, z; received {received}"):
        check_feeds("x", (IMAGE, Z), feeds)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int8", "uint8", "bool"])
def test_only_float32_is_taken(dtype):
    with pytest.raises(
        ArtifactError,
        match=rf"x: input 'z' expects float32 \(1, 3\); received {dtype} \(1, 3\)\. Cast with z",
    ):
        check_feeds("x", (Z,), {"z": np.zeros((1, 3), dtype)})


@pytest.mark.parametrize("shape", [(3,), (2, 3), (1, 2), (1, 3, 1), ()])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ArtifactError, match=r"expects float32 \(1, 3\).*Reshape or resize"):
        check_feeds("x", (Z,), {"z": f32(*shape)})


def test_free_axis_is_named_any():
    with pytest.raises(
        ArtifactError, match=r"expects float32 \(any, 2\); received float32 \(4, 3\)"
    ):
        check_feeds("x", (IMAGE,), {"image": f32(4, 3)})


def test_quantize_is_round_of_x_over_scale_plus_zero_point():
    # 2 / 0.5 - 3, -1 / 0.5 - 3, 0.6 / 0.5 = 1.2 -> 1 - 3
    assert quantized(q(), 2.0, -1.0, 0.0, 0.6) == [1, -5, -3, -2]


def test_quantize_rounds_ties_to_even_before_adding_the_zero_point():
    # 0.5, 1.5, 2.5, -0.5, -1.5 steps
    assert quantized(q(), 0.25, 0.75, 1.25, -0.25, -0.75) == [-3, -1, -1, -3, -5]


def test_quantize_saturates_int8():
    assert quantized(q(), 65.0, 65.5, 1e9, -62.5, -63.0, -1e9) == [127, 127, 127, -128, -128, -128]


def test_quantize_saturates_uint8():
    assert quantized(q("uint8", 0.25, 128), -32.25, -32.0, 0.0, 31.75, 32.0) == [
        0,
        0,
        128,
        255,
        255,
    ]


def test_quantize_saturates_int16():
    assert quantized(q("int16", 1.0, 0), 32767.0, 32768.0, -32769.0) == [32767, 32767, -32768]


def test_dequantize_is_q_minus_zero_point_times_scale():
    values = dequantize(np.array([1, -5, -3, 127, -128], np.int8), q())

    assert values.dtype == np.float32
    assert values.tolist() == [2.0, -1.0, 0.0, 65.0, -62.5]


def test_dequantize_does_not_wrap_around():
    # 127 - -128 = 255 does not fit in int8, and 0 - 255 not in uint8.
    assert dequantize(np.array([127], np.int8), q(zero_point=-128)).tolist() == [127.5]
    assert dequantize(np.array([0], np.uint8), q("uint8", 1.0, 255)).tolist() == [-255.0]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_every_stored_value_survives_both_ways(dtype):
    info = np.iinfo(dtype)
    stored = np.arange(info.min, info.max + 1).astype(dtype)
    spec = q(dtype, 0.0123, 7)

    np.testing.assert_array_equal(quantize(dequantize(stored, spec), spec), stored)


def test_float_tensors_pass_unchanged():
    values = np.array([1.5, -2.25], np.float32)

    assert quantize(values, Z) is values
    assert dequantize(values, Z) is values


def test_runner_base_closes_at_the_end_of_its_block():
    closed = []

    class Mine(RunnerBase):
        def close(self):
            closed.append(self.name)

    with Mine(name="mine", runtime="r 1", inputs=(IMAGE,), outputs=(Z,)) as runner:
        assert isinstance(runner, Runner)
        assert (runner.runtime, runner.inputs, runner.outputs) == ("r 1", (IMAGE,), (Z,))
        assert closed == []

    assert closed == ["mine"]


def test_runner_base_does_not_run():
    runner = RunnerBase(name="mine", runtime="r 1", inputs=(IMAGE,), outputs=(Z,))

    runner.close()
    with pytest.raises(NotImplementedError):
        runner.run({})
