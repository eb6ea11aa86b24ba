"""What a lowering pass is: pattern, check, rewrite, and a reason wherever it does not apply."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from exporters.graph import Graph, Node

__all__ = ["LoweringPass", "PassResult", "Refusal", "rewrite_nodes", "run_passes"]


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A node that a pass looked at and left alone, and why."""

    node: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class PassResult:
    """What a pass made of a graph.

    Attributes:
        graph: computes the same as before.
        applied: names of the nodes that were rewritten.
        refused: nodes of the pass's pattern that were left alone.
    """

    graph: Graph
    applied: tuple[str, ...]
    refused: tuple[Refusal, ...] = ()


class LoweringPass(Protocol):
    """An exact rewrite. See CONTRIBUTING.md for a worked example of adding one."""

    @property
    def name(self) -> str:
        """What the manifest calls it, verb first."""

    def __call__(self, graph: Graph) -> PassResult:
        """Rewrite a graph, or refuse."""


Replacement = tuple[tuple[Node, ...], tuple[Node, ...]]


def rewrite_nodes(
    graph: Graph, nodes: Iterable[Node], rewrite: Callable[[Graph, Node], Replacement | str | None]
) -> PassResult:
    """Rewrite nodes one after the other.

    Args:
        graph: what they stand in.
        nodes: those that the pass's pattern might match.
        rewrite: gives the nodes that go and those that come, or the reason for leaving the node
            alone, or None where the pattern does not match at all.
    """
    applied: list[str] = []
    refused: list[Refusal] = []
    for node in nodes:
        if not any(node is other for other in graph.nodes):
            continue  # gone with an earlier one
        result = rewrite(graph, node)
        if isinstance(result, str):
            refused.append(Refusal(node=node.name, reason=result))
        elif result is not None:
            graph = graph.replacing(*result)
            applied.append(node.name)
    return PassResult(graph=graph, applied=tuple(applied), refused=tuple(refused))


def run_passes(
    graph: Graph, passes: Iterable[LoweringPass]
) -> tuple[Graph, tuple[tuple[LoweringPass, PassResult], ...]]:
    """Run passes in order; give the last graph and every pass's result."""

    def results() -> Iterator[tuple[LoweringPass, PassResult]]:
        current = graph
        for each in passes:
            result = each(current)
            current = result.graph
            yield each, result

    collected = tuple(results())
    return (collected[-1][1].graph if collected else graph), collected
