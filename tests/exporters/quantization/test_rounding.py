"""Weights rounded on data, against rounding each to its nearest step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from exporters.graph import Activation, Conv, Dense, Layout
from exporters.quantization.plan import QuantizationPlan, Range, quantize_weights

pytestmark = pytest.mark.host


def correlated(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Rows of few directions: what errors can cancel in."""
    mixing = rng.standard_normal((max(size // 4, 1), size))
    rows = rng.standard_normal((count, len(mixing))) @ mixing
    return np.float32(rows + 0.05 * rng.standard_normal((count, size)))


def dense(rng, inputs: int, outputs: int, **changes) -> Dense:
    op = Dense(
        kernel=rng.standard_normal((inputs, outputs), np.float32),
        bias=np.zeros(outputs, np.float32),
    )
    return replace(op, **changes)


def float_plan(**settings) -> QuantizationPlan:
    """The layers' weights in int8 and nothing else, so that X is the data itself."""
    from exporters.quantization.plan import WeightMode

    return QuantizationPlan(weights=dict.fromkeys("ab", WeightMode.INT8), **settings)


def rounded(graph, plan, rows, nodes=None):
    from exporters.quantization.rounding import round_weights

    return round_weights(graph, plan, rows, graph.nodes if nodes is None else nodes, 0)


def error(rows: np.ndarray, kernel: np.ndarray, real: np.ndarray) -> float:
    return float(np.linalg.norm(rows.astype(np.float64) @ (kernel.astype(np.float64) - real)))


def step_by_step(rows: np.ndarray, kernel: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The same rounding from its definition: after each input the least squares of those left."""
    from exporters.quantization.rounding import _RIDGE

    hessian = rows.T.astype(np.float64) @ rows
    hessian += _RIDGE * np.mean(np.diag(hessian)) * np.eye(len(hessian))
    wanted = kernel.astype(np.float64) / scales
    stored = np.zeros(wanted.shape)
    for i in range(len(wanted)):
        made = stored[:i] - wanted[:i]
        best = wanted[i:] - np.linalg.solve(hessian[i:, i:], hessian[i:, :i] @ made)
        stored[i] = np.clip(np.rint(best[0]), -127, 127)
    return stored


def test_every_weight_makes_up_for_those_before_it(chain):
    rng = np.random.default_rng(7)
    rows, op = correlated(rng, 100, 24), dense(rng, 24, 5)
    result = rounded(chain((24,), op), float_plan(), rows).stored["a"]
    np.testing.assert_array_equal(result.stored, step_by_step(rows, op.kernel, result.scales))


@pytest.mark.parametrize("per_tensor", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_output_error_on_correlated_data_is_lower(chain, seed, per_tensor):
    rng = np.random.default_rng(seed)
    rows, op = correlated(rng, 200, 32), dense(rng, 32, 6)
    plan = float_plan(per_tensor=frozenset("a" if per_tensor else ""))
    result = rounded(chain((32,), op), plan, rows).stored["a"]
    nearest = quantize_weights(op.kernel, per_channel=not per_tensor)
    np.testing.assert_array_equal(result.scales, nearest.scales)
    assert result.stored.dtype == np.int8
    assert error(rows, op.kernel, result.real()) < 0.7 * error(rows, op.kernel, nearest.real())
    # Not by moving weights far away.
    assert np.abs(result.real() - op.kernel).max() < 8 * nearest.scales.max()


def test_uncorrelated_inputs_are_rounded_to_the_nearest(chain):
    rng = np.random.default_rng(0)
    op = dense(rng, 8, 4)
    rows = np.eye(8, dtype=np.float32)
    result = rounded(chain((8,), op), float_plan(), rows).stored["a"]
    np.testing.assert_array_equal(result.stored, quantize_weights(op.kernel).stored)


def test_two_equal_inputs_share_what_is_left_over(chain):
    # Steps of 1: 0.4 + 0.4 is nearer to 1 than to 0 + 0. The third fixes the scale.
    op = Dense(kernel=np.float32([[0.4], [0.4], [127]]), bias=np.zeros(1, np.float32))
    rows = np.float32([[1, 1, 0], [2, 2, 0], [0, 0, 1]])
    result = rounded(chain((3,), op), float_plan(), rows).stored["a"]
    assert quantize_weights(op.kernel).stored.ravel().tolist() == [0, 0, 127]
    assert result.stored.ravel().tolist() == [0, 1, 127]


def patches(op: Conv, rows: np.ndarray) -> np.ndarray:
    """A convolution's inputs as rows, one per output pixel."""
    height, width = op.kernel.shape[:2]
    padded = np.pad(rows, ((0, 0), *op.pads, (0, 0)))
    found = []
    for y in range(0, padded.shape[1] - (height - 1) * op.dilations[0], op.strides[0]):
        for x in range(0, padded.shape[2] - (width - 1) * op.dilations[1], op.strides[1]):
            window = padded[
                :,
                y : y + (height - 1) * op.dilations[0] + 1 : op.dilations[0],
                x : x + (width - 1) * op.dilations[1] + 1 : op.dilations[1],
            ]
            found.append(window.reshape(len(rows), -1))
    return np.concatenate(found)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"strides": (2, 1)},
        {"dilations": (2, 1), "pads": ((2, 2), (0, 1))},
        {"layout": Layout.CHANNELS_FIRST},
    ],
    ids=str,
)
def test_convolutions_see_the_patches_that_they_read(chain, settings):
    rng = np.random.default_rng(1)
    op = Conv(
        kernel=rng.standard_normal((3, 2, 4, 5), np.float32),
        bias=np.zeros(5, np.float32),
        **{"pads": ((1, 1), (0, 1)), **settings},
    )
    # Channels that rise and fall together: 24 values of a patch in 6 directions.
    rows = np.float32(rng.standard_normal((40, 6, 6, 1)) * rng.standard_normal(4))
    rows += 0.05 * rng.standard_normal(rows.shape, np.float32)
    given = rows.transpose(0, 3, 1, 2) if op.layout is Layout.CHANNELS_FIRST else rows
    result = rounded(chain(given.shape[1:], op), float_plan(), given).stored["a"]
    seen = patches(op, rows)
    flat, nearest = op.kernel.reshape(-1, 5), quantize_weights(op.kernel)
    wanted = step_by_step(seen, flat, nearest.scales)
    np.testing.assert_array_equal(result.stored.reshape(-1, 5), wanted)
    assert error(seen, flat, wanted * nearest.scales) < error(
        seen, flat, nearest.real().reshape(-1, 5)
    )


def test_later_layers_see_what_earlier_ones_became(chain, in_tensorflow):
    rng = np.random.default_rng(2)
    first = dense(rng, 16, 24, activation=Activation.RELU)
    graph = chain((16,), first, dense(rng, 24, 4))
    rows = correlated(rng, 200, 16)
    plan = rounded(graph, float_plan(), rows)
    assert plan.stored.keys() == {"a", "b"}
    # Rounded alone on the inputs that the first layer really gives, the second comes out the same.
    real = chain((16,), replace(first, kernel=plan.stored["a"].real()))
    alone = chain((24,), dense(rng, 24, 4))
    alone = replace(alone, nodes=(replace(alone.nodes[0], op=graph.nodes[1].op),))
    again = rounded(alone, float_plan(), in_tensorflow(real, rows)["y"])
    np.testing.assert_array_equal(again.stored["a"].stored, plan.stored["b"].stored)


def test_inputs_are_seen_in_the_steps_of_their_range(chain):
    rng = np.random.default_rng(3)
    graph = chain((12,), dense(rng, 12, 3))
    rows = correlated(rng, 100, 12)
    # One step for all there is: every row reads as zeros, and nothing is left to make up for.
    coarse = {"x": Range(low=0.0, high=1e6), "a": Range(low=-1.0, high=1.0)}
    plan = rounded(graph, QuantizationPlan(integer=frozenset("a"), ranges=coarse), rows)
    nearest = quantize_weights(graph.nodes[0].op.kernel)
    np.testing.assert_array_equal(plan.stored["a"].stored, nearest.stored)


def test_layers_that_cannot_be_rounded_so_are_left_alone(chain):
    rng = np.random.default_rng(4)
    depthwise = Conv(
        kernel=rng.standard_normal((3, 3, 1, 4), np.float32),
        bias=np.zeros(4, np.float32),
        groups=4,
    )
    rows = rng.standard_normal((5, 6, 6, 4), np.float32)
    assert rounded(chain((6, 6, 4), depthwise), float_plan(), rows).stored == {}
    wide = chain((4097,), dense(rng, 4097, 1))
    assert rounded(wide, float_plan(), np.zeros((2, 4097), np.float32)).stored == {}


def test_only_the_layers_asked_for_are_rounded(chain):
    rng = np.random.default_rng(5)
    graph = chain((8,), dense(rng, 8, 6), dense(rng, 6, 2))
    rows = correlated(rng, 50, 8)
    kept = quantize_weights(graph.nodes[0].op.kernel)
    plan = rounded(graph, float_plan(stored={"a": kept}), rows, graph.nodes[1:])
    assert plan.stored.keys() == {"a", "b"}
    assert plan.stored["a"] is kept


def test_many_pixels_are_drawn_by_the_seed(chain):
    from exporters.quantization.rounding import round_weights

    rng = np.random.default_rng(6)
    op = Conv(kernel=rng.standard_normal((1, 1, 8, 4), np.float32), bias=np.zeros(4, np.float32))
    graph = chain((16, 16, 8), op)
    rows = correlated(rng, 100 * 256, 8).reshape(100, 16, 16, 8)
    first, again = (
        round_weights(graph, float_plan(), rows, graph.nodes, seed).stored["a"] for seed in (1, 1)
    )
    np.testing.assert_array_equal(first.stored, again.stored)
