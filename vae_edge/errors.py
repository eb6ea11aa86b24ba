"""The errors a user of vae-edge can meet.

VaeEdgeError
├── UsageError           an option or argument that cannot be honoured
├── DataError            a dataset or image that cannot be used
├── ModelError           a Keras model that cannot be loaded or split
├── ExportError          a conversion that failed
├── BundleError          a bundle that is damaged, foreign or cannot be written
├── ArtifactError        an artifact that does not load, or inputs that do not fit it
│   └── LoadingError     an artifact that its runtime refuses to load
├── RuntimeMissingError  a package that this command needs is not installed
├── ParityError          values that cannot be compared
└── TrainingError        a training run that cannot start, go on or resume

Every message is one paragraph: what was wrong, where, what was expected, what to do. The command
line prints it and exits with 2; nothing here is ever shown as a traceback.
"""

__all__ = [
    "ArtifactError",
    "BundleError",
    "DataError",
    "ExportError",
    "LoadingError",
    "ModelError",
    "ParityError",
    "RuntimeMissingError",
    "TrainingError",
    "UsageError",
    "VaeEdgeError",
]


class VaeEdgeError(Exception):
    """Base of every error raised on purpose by vae-edge."""


class UsageError(VaeEdgeError):
    """An option or argument that cannot be honoured."""


class DataError(VaeEdgeError):
    """A dataset or an image that cannot be used."""


class ModelError(VaeEdgeError):
    """A Keras model that cannot be loaded, or is not a VAE that can be split."""


class ExportError(VaeEdgeError):
    """A conversion that failed, or a combination that cannot be converted."""


class BundleError(VaeEdgeError):
    """A bundle that is damaged, foreign, or cannot be written."""


class ArtifactError(VaeEdgeError):
    """An artifact that does not load, or an input that does not fit it."""


class LoadingError(ArtifactError):
    """An artifact that its runtime refuses to load: damaged, or made for a newer one."""


class RuntimeMissingError(VaeEdgeError):
    """A package that is needed here is not installed."""


class ParityError(VaeEdgeError):
    """Values that cannot be compared: shapes differ, nothing to compare, not finite."""


class TrainingError(VaeEdgeError):
    """A training run that cannot start, go on, or resume."""
