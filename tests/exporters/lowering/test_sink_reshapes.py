"""Functions of single values moved before the reshape that they follow."""

from __future__ import annotations

import numpy as np
import pytest

from exporters.graph import (
    Activate,
    Activation,
    Affine,
    Binary,
    BinaryKind,
    Dense,
    Graph,
    Node,
    Reshape,
    Transpose,
)
from exporters.lowering.sink_reshapes import SinkReshapes
from exporters.operators import LayerNorm

RNG = np.random.default_rng(2)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


def assert_same(by_definition, graph: Graph, changed: Graph) -> None:
    rows = normal(3, *graph.input_shape)
    wanted, found = by_definition(graph, rows), by_definition(changed, rows)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "op",
    [
        Activate(activation=Activation.SILU),
        Affine(scale=normal(4), offset=normal(4)),
    ],
    ids=lambda op: type(op).__name__,
)
@pytest.mark.parametrize("shape", [(6, 4), (24,), (1, 6, 4)])
def test_functions_of_values_and_channels_move(chain, by_definition, op, shape):
    graph = chain(shape, Reshape(to=(3, 2, 4)), op)
    result = SinkReshapes()(graph)
    assert [type(node.op) for node in result.graph.nodes] == [type(op), Reshape]
    assert result.applied == ("b",)
    assert_same(by_definition, graph, result.graph)


def test_several_move_through_the_same_reshape(chain, by_definition):
    affine = Affine(scale=normal(4), offset=normal(4))
    graph = chain((8,), Reshape(to=(2, 4)), affine, Activate(activation=Activation.RELU))
    result = SinkReshapes()(graph)
    assert list(result.graph.operators().items()) == [
        ("Activate", 1),
        ("Affine", 1),
        ("Reshape", 1),
    ]
    assert isinstance(result.graph.nodes[-1].op, Reshape)
    assert_same(by_definition, graph, result.graph)


def test_two_that_are_reshaped_alike_are_added_before(by_definition):
    dense = Dense(kernel=normal(8, 8), bias=normal(8))
    nodes = (
        Node(name="l", op=dense, inputs=("x",), output="l"),
        Node(name="r", op=dense, inputs=("x",), output="r"),
        Node(name="ll", op=Reshape(to=(2, 4)), inputs=("l",), output="ll"),
        Node(name="rr", op=Reshape(to=(2, 4)), inputs=("r",), output="rr"),
        Node(name="s", op=Binary(kind=BinaryKind.ADD), inputs=("ll", "rr"), output="s"),
    )
    graph = Graph(input="x", input_shape=(8,), nodes=nodes, outputs={"y": "s"})
    result = SinkReshapes()(graph)
    assert result.graph.operators() == {"Binary": 1, "Dense": 2, "Reshape": 1}
    assert_same(by_definition, graph, result.graph)


@pytest.mark.parametrize(
    ("shape", "ops"),
    [
        ((4, 6), (Reshape(to=(6, 4)), Affine(scale=normal(4), offset=normal(4)))),
        ((8,), (Reshape(to=(2, 4)), LayerNorm(epsilon=1e-3, scale=normal(4), offset=normal(4)))),
        ((2, 4), (Transpose(order=(1, 0)), Activate(activation=Activation.RELU))),
    ],
)
def test_what_looks_at_more_stays(chain, shape, ops):
    graph = chain(shape, *ops)
    assert SinkReshapes()(graph).graph is graph


def test_what_is_read_elsewhere_stays():
    nodes = (
        Node(name="a", op=Reshape(to=(4, 2)), inputs=("x",), output="a"),
        Node(name="b", op=Activate(activation=Activation.RELU), inputs=("a",), output="b"),
    )
    graph = Graph(input="x", input_shape=(8,), nodes=nodes, outputs={"y": "b", "also": "a"})
    assert SinkReshapes()(graph).graph is graph
