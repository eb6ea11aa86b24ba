"""Channels of one tensor brought to one range: exact for rectified layers.

An 8-bit tensor has one scale, so a channel that reaches a quarter as far as the widest has a
quarter of the steps. relu(s v) = s relu(v) for s > 0, so that a layer's output channels can be
scaled by s and the next layer's input channels by 1 / s: the same function, with every channel of
the tensor between them reaching as far as the widest.

What a channel gains in steps of its own its weights lose in the next layer, where input channels
share the scale of an output channel. `power` lies between: s = (widest / reach) ** power.

Source: M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
2019 (arXiv:1906.04721), section 4.1, with scales from activations instead of weights, since with
one weight scale per channel it is the activations that lack steps; and the power from G. Xiao et
al., "SmoothQuant", 2022 (arXiv:2211.10438), section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from exporters.graph import Activation, Conv, ConvTranspose, Dense, Graph, Node, Reshape, Shape
from exporters.lowering.base import PassResult, Refusal
from vae_edge.terms import FloatArray

__all__ = ["Equalize"]

# A channel that hardly ever fires is not blown up to the range of the widest.
_MAX_SCALE = 64.0


@dataclass(frozen=True, kw_only=True)
class Equalize:
    """Scales channels between a rectified layer and those that read it.

    Attributes:
        reach: largest value of every channel, by tensor; of the graph that the pass gets.
        power: how far channels are brought together, 0 (not at all) to 1 (to one range).
    """

    reach: Mapping[str, FloatArray]
    power: float = 1.0

    @property
    def name(self) -> str:
        """What the manifest calls it."""
        return "equalize_channels"

    def __call__(self, graph: Graph) -> PassResult:
        """Equalize every tensor that can be."""
        applied: list[str] = []
        refused: list[Refusal] = []
        for node in graph.nodes:
            if not isinstance(node.op, (Conv, ConvTranspose, Dense)):
                continue
            current = next(each for each in graph.nodes if each.output == node.output)
            result = self._equalized(graph, current)
            if isinstance(result, str):
                refused.append(Refusal(node=node.name, reason=result))
            else:
                graph = result
                applied.append(node.name)
        return PassResult(graph=graph, applied=tuple(applied), refused=tuple(refused))

    def _equalized(self, graph: Graph, node: Node) -> Graph | str:
        op = node.op
        assert isinstance(op, (Conv, ConvTranspose, Dense))  # noqa: S101  chosen so
        if op.activation is not Activation.RELU:
            return f"{op.activation or 'no activation'} does not let scales through; expected relu"
        tensor, chain = node.output, [node.output]
        while isinstance(user := graph.only_user(tensor), Node) and isinstance(user.op, Reshape):
            tensor = user.output
            chain.append(tensor)
        readers = graph.users(tensor)
        if tensor in graph.outputs.values() or not readers:
            return "its output leaves the graph"
        if not all(isinstance(reader.op, (Conv, ConvTranspose, Dense)) for reader in readers):
            others = [type(r.op).__name__ for r in readers]
            return (
                f"its output is read by {', '.join(others)}; expected convolutions and dense layers"
            )
        # The shape with the fewest values in its last axis says what a channel is: (h, w, c).
        shape = min((graph.shapes[name] for name in chain), key=lambda each: each[-1])
        cut = next((n for n in chain if graph.shapes[n][-1] % shape[-1]), None)
        if cut is not None:
            return f"a reshape cuts its {graph.shapes[cut][-1]} channels into {shape[-1]}"
        widest = self.reach[next(name for name in chain if graph.shapes[name] == shape)]
        top = float(widest.max())
        if top <= 0:
            return "its output was never positive in calibration"
        ratios = top / np.maximum(widest, top / _MAX_SCALE)
        scales = np.asarray(ratios**self.power, np.float32)
        swapped = {id(node): replace(node, op=_outputs_scaled(op, scales))}
        for reader in readers:
            assert isinstance(reader.op, (Conv, ConvTranspose, Dense))  # noqa: S101  checked above
            inputs = graph.shapes[tensor]
            swapped[id(reader)] = replace(
                reader, op=_inputs_scaled(reader.op, np.float32(1) / scales, inputs)
            )
        return graph.with_nodes(swapped.get(id(each), each) for each in graph.nodes)


def _outputs_scaled(
    op: Conv | ConvTranspose | Dense, scales: FloatArray
) -> Conv | ConvTranspose | Dense:
    repeated = np.tile(scales, len(op.bias) // len(scales))
    by_channel = repeated[:, np.newaxis] if isinstance(op, ConvTranspose) else repeated
    return replace(
        op,
        kernel=np.asarray(op.kernel * by_channel, np.float32),
        bias=np.asarray(op.bias * repeated, np.float32),
    )


def _inputs_scaled(
    op: Conv | ConvTranspose | Dense, scales: FloatArray, shape: Shape
) -> Conv | ConvTranspose | Dense:
    scales = np.tile(scales, shape[-1] // len(scales))
    if isinstance(op, Conv) and op.groups > 1:
        # One kernel per channel: (h, w, 1, channels * multiplier).
        factor = np.repeat(scales, op.kernel.shape[3] // len(scales))
    elif isinstance(op, ConvTranspose):
        factor = scales
    else:
        factor = scales[:, np.newaxis]
    return replace(op, kernel=np.asarray(op.kernel * factor, np.float32))
