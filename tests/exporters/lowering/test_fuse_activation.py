"""Rectifiers computed by the layer before them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from exporters.graph import (
    Activate,
    Activation,
    Conv,
    ConvTranspose,
    Dense,
    Graph,
    Reshape,
)
from exporters.lowering.fuse_activation import FuseActivation

pytestmark = pytest.mark.host

RNG = np.random.default_rng(6)


def normal(*shape: int) -> np.ndarray:
    # Wide enough for values beyond 6.
    return 3 * RNG.standard_normal(shape, np.float32)


LAYERS = [
    Conv(kernel=normal(2, 3, 3, 4), bias=normal(4), pads=((1, 0), (1, 1))),
    ConvTranspose(
        kernel=normal(2, 2, 4, 3),
        bias=normal(4),
        strides=(2, 2),
        pads_before=(0, 0),
        output_size=(8, 10),
    ),
    Dense(kernel=normal(3, 4), bias=normal(4)),
]


@pytest.mark.parametrize("activation", [Activation.RELU, Activation.RELU6])
@pytest.mark.parametrize("op", LAYERS, ids=lambda op: type(op).__name__)
def test_clamps_are_fused_into_the_layer_before(chain, assert_same, op, activation):
    graph = chain((4, 5, 3), op, Activate(activation=activation))
    result = FuseActivation()(graph)
    assert result.applied == ("b",)
    (node,) = result.graph.nodes
    assert node.op.activation is activation
    assert node.name == "a"
    assert_same(graph, result.graph)


@pytest.mark.parametrize(
    "activation", sorted(set(Activation) - {Activation.RELU, Activation.RELU6})
)
def test_other_activations_are_neither_fused_nor_refused(chain, activation):
    graph = chain((3,), LAYERS[2], Activate(activation=activation, alpha=0.1))
    result = FuseActivation()(graph)
    assert (result.applied, result.refused) == ((), ())
    assert result.graph.operators() == {"Activate": 1, "Dense": 1}


def test_a_second_activation_stays(chain, assert_same):
    clamp = Activate(activation=Activation.RELU6)
    graph = chain((3,), LAYERS[2], Activate(activation=Activation.RELU), clamp)
    result = FuseActivation()(graph)
    assert result.applied == ("b",)
    assert [(r.node, r.reason) for r in result.refused] == [("c", "a applies relu already")]
    assert_same(graph, result.graph)


def test_what_cannot_clamp_is_left_alone(chain, assert_same):
    clamp = Activate(activation=Activation.RELU)
    graph = chain((4,), clamp, Reshape(to=(2, 2)), clamp)
    result = FuseActivation()(graph)
    assert result.applied == ()
    assert [(r.node, r.reason) for r in result.refused] == [
        ("a", "it follows the input, which cannot apply it"),
        ("c", "it follows b (Reshape), which cannot apply it"),
    ]
    assert_same(graph, result.graph)


@pytest.mark.parametrize("leaves", [True, False])
def test_a_layer_that_is_also_read_without_it_is_left_alone(chain, assert_same, leaves):
    plain = chain((3,), LAYERS[2], Activate(activation=Activation.RELU))
    nodes, outputs = plain.nodes, {"y": "b", "raw": "a"}
    if not leaves:
        other = replace(nodes[1], name="o", op=Activate(activation=Activation.TANH), output="o")
        nodes, outputs = (*nodes, other), {"y": "b", "o": "o"}
    graph = Graph(input="x", input_shape=(3,), nodes=nodes, outputs=outputs)
    result = FuseActivation()(graph)
    assert result.applied == ()
    assert [(r.node, r.reason) for r in result.refused] == [
        ("b", "the output of a is also read without it")
    ]
    assert_same(graph, result.graph)
