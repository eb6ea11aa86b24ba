"""Taking apart a Keras VAE: host only, and Keras is imported when it is called."""

from vae_edge.split_options import Scale, SplitOptions
from vae_edge.splitting.api import load, name_of, source_sha256, split

__all__ = ["Scale", "SplitOptions", "load", "name_of", "source_sha256", "split"]
