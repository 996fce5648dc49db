"""Objects found by discovery in a package, or by reference in a module beside a manifest.

    "my_module:name" in a manifest ─ find ─▶ Plugin(reference, source text) ─ load ─▶ the object

A `Plugin` carries its module's source, so a worker on another machine runs exactly what was hashed. A plugin is one
file: it may import installed packages, but not other files beside the manifest, whose changes no hash would show.
"""

import functools
import hashlib
import importlib
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pydantic import Field, ValidationInfo, computed_field

from corpus.config import Config, closest

T = TypeVar("T")

_REFERENCE = re.compile(r"([A-Za-z_]\w*):([A-Za-z_]\w*)")


class Plugin(Config):
    """An object of a module beside a manifest.

    A dump of the model has `reference` and `sha256`, so that it may enter hashes and lock files. A pickled model has
    the source too.
    """

    reference: str
    """`module:name`, as in the manifest."""
    path: str = Field(exclude=True, repr=False)
    """The module's file, for tracebacks."""
    source: str = Field(exclude=True, repr=False)
    """Content of the file."""

    def __str__(self) -> str:
        return self.reference

    @computed_field  # type: ignore[prop-decorator]
    @property
    def sha256(self) -> str:
        """Hash of the source."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    def load(self) -> Any:
        """Return the object; the module is executed once per process.

        Raises
        ------
        ValueError
            The module cannot be executed or does not define the name.
        """
        name = self.reference.partition(":")[2]
        module = _execute(self.path, self.source)
        if not hasattr(module, name):
            known = [key for key in vars(module) if not key.startswith("_")]
            raise ValueError(f"{self.path} does not define {name!r}{closest(name, known)}")
        return getattr(module, name)


def is_reference(text: str) -> bool:
    """Whether `text` has the form `module:name`."""
    return _REFERENCE.fullmatch(text) is not None


def find(reference: str, base: Path) -> Plugin:
    """Read the module that a reference names; it is not executed yet.

    Parameters
    ----------
    reference
        `module:name`; the module is the file `module.py` in `base`.
    base
        Folder of the manifest.

    Raises
    ------
    ValueError
        The reference has another form, or the file cannot be read.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise ValueError(f"{reference!r} is not a reference; expected module:name, as in my_module:my_function")
    path = base / f"{match[1]}.py"
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ValueError(
            f"{reference}: {path} cannot be read: {why}; expected the module beside the manifest"
        ) from None
    return Plugin(reference=reference, path=str(path), source=source)


def resolve(value: Any, info: ValidationInfo) -> Any:
    """Turn a reference in a manifest into its `Plugin`; names pass through.

    A pydantic `BeforeValidator` for fields that take a name or a reference. The folder is `base` of the validation
    context, which `corpus.config.load_manifest` sets to the manifest's; without one it is the current directory.
    """
    if isinstance(value, Plugin) or (isinstance(value, str) and not is_reference(value)):
        return value
    if not isinstance(value, str):
        raise ValueError(f"expected a name, or module:name of a module beside the manifest (found {value!r})")
    plugin = find(value, (info.context or {}).get("base", Path()))
    plugin.load()  # its errors are the manifest's
    return plugin


@functools.cache
def _execute(path: str, source: str) -> ModuleType:
    name = f"{Path(path).stem}_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    module = ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module  # dataclasses look their module up
    try:
        exec(compile(source, path, "exec"), module.__dict__)
    except Exception as error:
        del sys.modules[name]
        hint = "; a plugin is one file and imports installed packages only" if isinstance(error, ImportError) else ""
        raise ValueError(f"{path} cannot be executed: {type(error).__name__}: {error}{hint}") from error
    return module


def instances(package: str, kind: type[T]) -> Iterator[T]:
    """Yield the module-level instances of `kind` in the modules of a package, in the modules' alphabetical order."""
    for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
        for value in vars(importlib.import_module(f"{package}.{info.name}")).values():
            if isinstance(value, kind):
                yield value
