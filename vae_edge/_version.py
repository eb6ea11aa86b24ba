"""The installed version, from the package metadata, so that it is stated in one place."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("vae-edge")
except PackageNotFoundError:  # a source tree on sys.path without an installation
    __version__ = "0+unknown"
