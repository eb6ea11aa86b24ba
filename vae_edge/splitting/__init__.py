"""Taking apart a Keras VAE: host only, and Keras is imported when it is called."""

from vae_edge.splitting.loading import load

__all__ = ["load"]
