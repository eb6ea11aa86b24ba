"""vae-edge: export Keras VAEs to small devices, prove the export, measure it."""

from vae_edge._version import __version__
from vae_edge.edge_vae import EdgeVAE, Posterior
from vae_edge.errors import VaeEdgeError
from vae_edge.terms import Component, Format, Precision

__all__ = [
    "Component",
    "EdgeVAE",
    "Format",
    "Posterior",
    "Precision",
    "VaeEdgeError",
    "__version__",
]
