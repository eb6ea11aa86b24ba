"""The command line: the one place where exporters, benchmarks and training meet."""

from vae_edge.cli.app import main

__all__ = ["main"]
