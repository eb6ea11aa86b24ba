"""Scales and offsets folded into the layers that read them."""

from __future__ import annotations

import numpy as np
import pytest

from exporters.graph import Activate, Activation, Affine, Conv, Dense, Graph, Node, Reshape
from exporters.lowering.fold_scale_forward import FoldScaleForward

RNG = np.random.default_rng(3)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


AFFINE = Affine(scale=normal(4), offset=normal(4))
SCALE = Affine(scale=normal(4), offset=np.zeros(4, np.float32))
PADDED = ((1, 1), (1, 1))


def conv(**changes) -> Conv:
    return Conv(kernel=normal(3, 3, 4, 5), bias=normal(5), **changes)


def depthwise(**changes) -> Conv:
    return Conv(kernel=normal(2, 2, 1, 8), bias=normal(8), groups=4, **changes)


@pytest.mark.parametrize(
    ("affine", "ops"),
    [
        (AFFINE, (conv(),)),
        (SCALE, (conv(pads=PADDED),)),
        (AFFINE, (depthwise(),)),
        (SCALE, (depthwise(pads=PADDED),)),
        (AFFINE, (Dense(kernel=normal(4, 3), bias=normal(3)),)),
        (AFFINE, (Reshape(to=(100,)), Dense(kernel=normal(100, 3), bias=normal(3)))),
    ],
)
def test_readers_take_it_in(chain, by_definition, affine, ops):
    graph = chain((5, 5, 4), affine, *ops)
    result = FoldScaleForward()(graph)
    assert "Affine" not in result.graph.operators()
    assert result.applied == ("a",)
    rows = normal(3, 5, 5, 4)
    wanted, found = by_definition(graph, rows)["y"], by_definition(result.graph, rows)["y"]
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


def test_both_heads_take_it_in(by_definition):
    nodes = (
        Node(name="norm", op=AFFINE, inputs=("x",), output="norm"),
        Node(name="flat", op=Reshape(to=(8,)), inputs=("norm",), output="flat"),
        *(
            Node(
                name=name,
                op=Dense(kernel=normal(8, 2), bias=normal(2)),
                inputs=("flat",),
                output=name,
            )
            for name in ("mean", "spread")
        ),
    )
    outputs = {"z_mean": "mean", "z_log_var": "spread"}
    graph = Graph(input="x", input_shape=(2, 4), nodes=nodes, outputs=outputs)
    result = FoldScaleForward()(graph)
    assert result.graph.operators() == {"Dense": 2, "Reshape": 1}
    rows = normal(3, 2, 4)
    wanted, found = by_definition(graph, rows), by_definition(result.graph, rows)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5)


@pytest.mark.parametrize(
    ("affine", "op", "reason"),
    [
        (AFFINE, conv(pads=PADDED), "b pads with zeros, which the offset does not apply to"),
        (
            AFFINE,
            Activate(activation=Activation.RELU),
            "b (Activate) reads it, which has no weights for it",
        ),
    ],
)
def test_what_cannot_take_it_in_is_named(chain, affine, op, reason):
    graph = chain((5, 5, 4), affine, op)
    (refusal,) = FoldScaleForward()(graph).refused
    assert (refusal.node, refusal.reason) == ("a", reason)


def test_an_output_keeps_its_scale(chain):
    graph = chain((4,), AFFINE)
    (refusal,) = FoldScaleForward()(graph).refused
    assert refusal.reason == "its output leaves the graph"
