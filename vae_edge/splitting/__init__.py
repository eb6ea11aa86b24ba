"""Taking apart a Keras VAE: host only, and Keras is imported when it is called."""

from vae_edge.splitting.api import load, source_sha256, split
from vae_edge.splitting.options import Scale, SplitOptions

__all__ = ["Scale", "SplitOptions", "load", "source_sha256", "split"]
