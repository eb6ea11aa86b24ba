"""Importing the modules that a user names, and finding the classes that a file asks for in them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from vae_edge.errors import ModelError

__all__ = ["KnownClasses", "import_modules"]


def import_modules(names: Sequence[str]) -> tuple[ModuleType, ...]:
    """Import modules by name, or by the path of a `.py` file; this runs their code.

    The file's directory, and for a name the current one, is put on the path, so that what it
    imports beside itself is found.

    Raises:
        ModelError: no such module, or it fails; says with what.
    """
    return tuple(_import(name) for name in names)


def _import(name: str) -> ModuleType:
    is_file = name.endswith(".py")
    path = Path(name).resolve()
    if is_file and not path.is_file():
        raise ModelError(f"--import {name}: no such file. Give a module's name or a .py file.")
    directory = str(path.parent if is_file else Path.cwd())
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        return _import_file(path) if is_file else importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        text = " ".join(str(error).split())
        raise ModelError(
            f"--import {name}: fails with {type(error).__name__}: {text or 'no message'}. Give a "
            "module's name or a .py file that only defines and registers the custom layers; what "
            "trains belongs under `if __name__ == '__main__':`."
        ) from error


def _import_file(path: Path) -> ModuleType:
    loaded = sys.modules.get(path.stem)
    if loaded is not None:
        if Path(getattr(loaded, "__file__", None) or "").resolve() == path:
            return loaded
        name = f"{path.stem}_{abs(hash(str(path)))}"
        if name in sys.modules:
            return sys.modules[name]
    else:
        name = path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("it cannot be loaded as a module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class KnownClasses:
    """The classes and functions that a file may ask for: Keras's modelling ones, and the user's."""

    def __init__(self, modules: Sequence[ModuleType]) -> None:
        """Take the user's modules, which are imported already."""
        self._keras: Any = importlib.import_module("keras")
        self._modules = tuple(modules)
        keras = self._keras
        self._kinds = (
            keras.Operation,
            keras.initializers.Initializer,
            keras.regularizers.Regularizer,
            keras.constraints.Constraint,
            keras.dtype_policies.DTypePolicy,
            keras.random.SeedGenerator,
        )

    def custom(self, class_name: str, registered_name: str | None) -> Any:
        """Give a class or function that is registered, or else a class of the user's modules.

        None where there is none of that name.
        """
        registered = self._keras.saving.get_custom_objects()
        for name in (registered_name, class_name):
            if name is not None and name in registered:
                return registered[name]
        own = (registered_name or class_name).rsplit(">", maxsplit=1)[-1]
        found = {
            id(each): each
            for module in self._modules
            for each in [getattr(module, own, None)]
            # Not whatever else the module has imported, such as a function of the system's.
            if isinstance(each, type)
            and issubclass(each, self._kinds)
            and each.__module__.split(".")[0] == module.__name__.split(".")[0]
        }
        return next(iter(found.values())) if len(found) == 1 else None

    def keras_class(self, module: str, class_name: str) -> Any:
        """Give a class that models are made of from Keras itself; None where it is none."""
        if module != "keras" and not module.startswith("keras."):
            return None
        found = getattr(sys.modules.get(module), class_name, None)
        if found is None:  # where a release has moved a class
            found = getattr(self._keras.layers, class_name, None)
        if not isinstance(found, type) or not issubclass(found, self._kinds):
            return None
        return found

    def keras_function(self, name: str) -> bool:
        """Say whether a name is that of an activation function of Keras."""
        found = getattr(self._keras.activations, name, None)
        # `get` and its like make other objects from configurations.
        return callable(found) and name not in ("get", "serialize", "deserialize")
