"""How far a quantized component's outputs are from the float one's: what recipes make small."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vae_edge.terms import FloatArray

__all__ = ["Objective", "OutputError"]

Objective = Callable[[Mapping[str, FloatArray]], float]
"""Outputs by name, float32 (count, ...), to their error; smaller is better."""

# Keras clips probabilities here; a saturated sigmoid would make the divergence infinite.
_TINY = 1e-7


@dataclass(frozen=True, kw_only=True)
class OutputError:
    """The mean squared error, summed over the outputs; of probabilities also what the ELBO loses.

    A range that is cut too far leaves probabilities a little off everywhere, which squares make
    nothing of and a sum of logarithms over all pixels does. With p the float model's and q the
    quantized one's, that loss is the mean over pixels of KL(Bernoulli(p) to Bernoulli(q)).

    Attributes:
        probabilities: the output that holds probabilities, or None.
        squares_per_nat: squared error that a nat per pixel counts for.
    """

    probabilities: str | None = None
    squares_per_nat: float = 1.0

    def against(self, wanted: Mapping[str, FloatArray]) -> Objective:
        """Give the error of outputs against the float model's."""
        return lambda outputs: float(self.of(outputs, wanted))

    def of(self, outputs: Mapping[str, Any], wanted: Mapping[str, Any]) -> Any:
        """Compute the error as a TensorFlow scalar, float32, that gradients can be taken of."""
        tf: Any = importlib.import_module("tensorflow")
        error = sum(
            tf.reduce_mean(tf.square(outputs[name] - value)) for name, value in wanted.items()
        )
        if self.probabilities is None:
            return error
        p, q = (
            tf.clip_by_value(values[self.probabilities], _TINY, 1 - _TINY)
            for values in (wanted, outputs)
        )
        divergence = p * tf.math.log(p / q) + (1 - p) * tf.math.log((1 - p) / (1 - q))
        return error + self.squares_per_nat * tf.reduce_mean(divergence)
