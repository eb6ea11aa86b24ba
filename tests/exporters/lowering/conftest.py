"""What is to hold for every pass: the graph that it gives computes what the given one does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from exporters.graph import Graph

# float32 holds 24 bits, 6e-8; sums of some hundred products round a few times that. Inputs and
# weights are about 1, so that is the least that is added, however small a rectified output is.
_SHARE, _LEAST = 1e-6, 1.0


@pytest.fixture(scope="session")
def assert_same(by_definition, in_tensorflow) -> Callable[..., None]:
    """Compare a rewritten graph with the definition of the original, on random rows."""

    def check(before: Graph, after: Graph, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        rows = rng.standard_normal((3, *before.input_shape), np.float32)
        wanted = by_definition(before, rows)
        found = in_tensorflow(after, rows)
        assert after.input == before.input
        assert found.keys() == wanted.keys()
        for name, reference in wanted.items():
            assert found[name].shape == reference.shape
            error = np.abs(found[name] - reference).max()
            allowed = _SHARE * max(np.abs(reference).max(), _LEAST)
            if error > allowed:
                # TensorFlow's own sigmoid is off by more on some processors: a rewritten graph may
                # be so too, and no more than the original.
                own = np.abs(in_tensorflow(before, rows)[name] - reference).max()
                allowed = max(allowed, 1.5 * own)
            assert error <= allowed, name

    return check
