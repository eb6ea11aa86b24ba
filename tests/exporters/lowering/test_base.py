"""How passes are run, and what they report."""

from __future__ import annotations

import numpy as np

from exporters.graph import Affine, Reshape
from exporters.lowering.base import Refusal, rewrite_nodes, run_passes
from exporters.lowering.fold_batch_norm import FoldBatchNorm
from exporters.lowering.simplify_shapes import SimplifyShapes


def test_no_passes_leave_the_graph_as_it_is(chain):
    graph = chain((4,), Reshape(to=(2, 2)))
    assert run_passes(graph, ()) == (graph, ())


def test_every_pass_gets_what_the_one_before_made(chain):
    ones = np.ones(2, np.float32)
    graph = chain((4,), Reshape(to=(4, 1)), Reshape(to=(2, 2)), Affine(scale=ones, offset=ones))
    passes = (SimplifyShapes(), FoldBatchNorm())
    last, results = run_passes(graph, passes)
    assert [each for each, _ in results] == list(passes)
    assert [node.name for node in last.nodes] == ["b", "c"]
    assert results[0][1].graph.operators() == {"Affine": 1, "Reshape": 1}
    assert results[1][1].refused == (
        Refusal(node="c", reason="it follows b (Reshape), which has no weights to fold it into"),
    )


def test_nodes_that_are_gone_are_not_looked_at(chain):
    graph = chain((4,), Reshape(to=(2, 2)), Reshape(to=(4, 1)), Reshape(to=(1, 4)))
    looked_at = []

    def rewrite(current, node):
        looked_at.append(node.name)
        if node.name == "c":
            return "it is the last"
        a, b, _ = current.nodes
        return (a, b), (type(b)(name="joined", op=b.op, inputs=a.inputs, output=b.output),)

    result = rewrite_nodes(graph, graph.nodes, rewrite)
    assert looked_at == ["a", "c"]
    assert result.applied == ("a",)
    assert result.refused == (Refusal(node="c", reason="it is the last"),)
    assert [node.name for node in result.graph.nodes] == ["joined", "c"]


def test_a_node_that_the_pattern_does_not_match_is_not_reported(chain):
    graph = chain((4,), Reshape(to=(2, 2)))
    result = rewrite_nodes(graph, graph.nodes, lambda *_: None)
    assert (result.applied, result.refused, result.graph) == ((), (), graph)
