from __future__ import annotations

import pytest

from vae_edge.cli.tables import plural


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 artifacts"), (1, "1 artifact"), (1200, "1,200 artifacts")]
)
def test_one_is_no_plural(count: int, text: str) -> None:
    assert plural(count, "artifact") == text
