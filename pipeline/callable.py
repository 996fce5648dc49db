"""Modules that can be called, where the library's function and a module have one name.

`pipeline.build(...)` is a function of the library, but `python -m pipeline.build` needs a module of that name, and
Python binds it as the attribute `pipeline.build` when it is imported. So the module itself is made callable.
"""

import importlib
import sys
from types import ModuleType
from typing import Any


class CallableModule(ModuleType):
    """A module whose call is a call of one function."""

    function: str
    """`module:name`; imported at the first call."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(module), name)(*arguments, **options)


def make_callable(module: str, function: str) -> None:
    """Make the imported `module` call `function`, given as `module:name`."""
    found: Any = sys.modules[module]
    found.__class__ = CallableModule
    found.function = function
