"""Loaded artifacts behind one interface; each runtime is imported only when one is opened."""

from vae_edge.runners.base import Runner
from vae_edge.runners.registry import open_artifact

__all__ = ["Runner", "open_artifact"]
