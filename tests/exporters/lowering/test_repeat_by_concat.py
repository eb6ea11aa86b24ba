"""Upsampling to the nearest value as concatenation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from exporters.graph import Affine, Graph, Repeat
from exporters.lowering.repeat_by_concat import RepeatByConcat

pytestmark = pytest.mark.host


@settings(max_examples=60)
@given(
    shape=st.tuples(*(st.integers(1, 4),) * 3),
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
)
def test_values_are_put_beside_themselves(
    chain, by_definition, in_tensorflow, shape, rows, columns
):
    assume(rows > 1 or columns > 1)
    graph = chain(shape, Repeat(rows=rows, columns=columns))
    result = RepeatByConcat()(graph)
    assert result.applied == ("a",)
    pairs = (rows > 1) + (columns > 1)
    assert result.graph.operators() == {"Concat": pairs, "Reshape": pairs}
    # Values are only moved.
    given = np.random.default_rng(0).standard_normal((2, *shape), np.float32)
    found, wanted = (
        f(g, given)["y"] for f, g in ((in_tensorflow, result.graph), (by_definition, graph))
    )
    np.testing.assert_array_equal(found, wanted)


def test_several_are_all_rewritten_and_keep_their_names(chain, assert_same):
    plain = chain((2, 3, 2), Repeat(rows=2, columns=2), Repeat(rows=1, columns=3))
    graph = Graph(
        input="x", input_shape=(2, 3, 2), nodes=plain.nodes, outputs={"first": "a", "y": "b"}
    )
    result = RepeatByConcat()(graph)
    assert result.applied == ("a", "b")
    assert {node.name for node in result.graph.nodes} == {"a", "b"}
    assert_same(graph, result.graph)


def test_other_layers_are_neither_rewritten_nor_refused(chain):
    ones = np.ones(2, np.float32)
    graph = chain((2,), Affine(scale=ones, offset=ones))
    result = RepeatByConcat()(graph)
    assert (result.applied, result.refused) == ((), ())
    assert result.graph.nodes == graph.nodes
