"""The JSON Schema of what `vae-edge parity --json` prints."""

from __future__ import annotations

from typing import Any

from vae_edge import codec
from vae_edge.parity import REPORT_SCHEMA_VERSION, ParityReport

__all__ = ["parity_schema"]


def parity_schema() -> dict[str, Any]:
    """Give the JSON Schema of the parity report, as published in `vae_edge/parity.schema.json`."""
    return codec.schema(
        ParityReport, title=f"vae-edge parity report, version {REPORT_SCHEMA_VERSION}"
    )
