"""vae-edge: export Keras VAEs to small devices, prove the export, measure it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

# Imported when they are asked for: the command line is in this package too, and shows its help
# without numpy.
_MODULES = {
    "Component": "terms",
    "EdgeVAE": "edge_vae",
    "Format": "terms",
    "Posterior": "edge_vae",
    "Precision": "terms",
    "VaeEdgeError": "errors",
    "__version__": "_version",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
