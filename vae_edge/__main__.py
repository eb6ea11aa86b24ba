"""Run the command line as `python -m vae_edge`."""

from vae_edge.cli import main

main()
