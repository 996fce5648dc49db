"""Keys of finished work: hashes of all that a result depends on, the source code included.

    module ─ imports, read from the sources ─▶ our modules it runs, libraries it uses ─▶ hash of sources and versions

A step's key contains the hash of its own module and of every module of ours that this one imports, directly or not. So
a changed stylesheet of the report does not invalidate ingested files, while a changed adapter does.
"""

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic_core import to_jsonable_python

PACKAGES = ("corpus", "pipeline")
LIBRARIES = ("ftfy", "gigatoken", "numpy", "polars", "py3langid", "pyarrow", "tokenizers", "xxhash")
"""Distributions whose version may change the bytes of a result; each is imported by its own name."""


@functools.cache
def library_versions() -> dict[str, str]:
    """Versions of the `LIBRARIES`; "absent" where one is not installed."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    return versions


def digest_of(value: object) -> str:
    """Return 32 hexadecimal digits that identify a value made of plain types, dataclasses and pydantic models."""
    text = json.dumps(to_jsonable_python(value), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class SourceTree:
    """The source files of `PACKAGES` below a folder, and the import graph between them.

    Imports inside functions count. Two kinds of imports are resolved conservatively:

    - A package that is imported for its own names, or named by a string (as by `import_module`), counts with all of its
      modules, since it may import any of them by name at run time.
    - A package that is only imported because one of its modules is, counts with what it imports at module level.

    Data files (templates, stylesheets) count for every module in their folder. Imports for annotations
    (`if TYPE_CHECKING:`) do not count.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[str, Path] = {}
        for package in PACKAGES:
            for path in sorted((root / package).rglob("*.py")):
                parts = path.relative_to(root).with_suffix("").parts
                self._files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        self._packages = {name for name, path in self._files.items() if path.name == "__init__.py"}
        self._versions: dict[str, str] = {}
        self._imported: dict[tuple[str, bool], list[str]] = {}

    def whole(self) -> str:
        """Hash of all source files and of all library versions."""
        return self._hash({path for top in PACKAGES for path in _contents(self._root / top)}, set(LIBRARIES))

    def version(self, module: str) -> str:
        """Hash of a module, of all modules of `PACKAGES` that it imports, and of the versions of libraries they use.

        Parameters
        ----------
        module
            Dotted name. A module outside of `PACKAGES` must be importable.
        """
        if module not in self._versions:
            modules, libraries = self.dependencies(module)
            files = {self._file(name) for name in modules}
            folders = {file.parent for file in files if self._root in file.parents}
            data = {path for folder in folders for path in _data_files(folder)}
            self._versions[module] = self._hash(files | data, libraries)
        return self._versions[module]

    def dependencies(self, module: str) -> tuple[set[str], set[str]]:
        """Return the modules that a module's result depends on, itself included, and the `LIBRARIES` they import."""
        seen: set[tuple[str, bool]] = set()
        libraries: set[str] = set()
        waiting = [(module, True)]
        while waiting:
            name, explicit = waiting.pop()
            if (name, explicit) in seen:
                continue
            seen.add((name, explicit))
            if (name, explicit) not in self._imported:
                self._imported[name, explicit] = list(self._imports(name, explicit))
            for target in self._imported[name, explicit]:
                if target in self._files:
                    waiting.append((target, True))
                    if target in self._packages and "." in target:
                        waiting += [(other, True) for other in self._files if other.startswith(f"{target}.")]
                else:
                    libraries |= {target.partition(".")[0]} & set(LIBRARIES)
            parts = name.split(".")
            waiting += [(".".join(parts[:depth]), False) for depth in range(1, len(parts)) if name in self._files]
        return {name for name, _ in seen}, libraries

    def _imports(self, module: str, explicit: bool) -> Iterator[str]:
        path = self._file(module)
        for node in _nodes(ast.parse(path.read_bytes()), into_functions=explicit):
            match node:
                case ast.Import(names=names):
                    yield from (alias.name for alias in names)
                case ast.ImportFrom(names=names):
                    base = self._base(module, node)
                    found = {f"{base}.{alias.name}" for alias in names}
                    yield from found & self._files.keys()
                    if not found <= self._files.keys():
                        yield base
                case ast.Constant(value=str(text)) if explicit and "." in text and text.rstrip(".") in self._packages:
                    yield text.rstrip(".")

    def _base(self, module: str, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = module if module in self._packages else module.rpartition(".")[0]
        return importlib.util.resolve_name("." * node.level + (node.module or ""), package)

    def _file(self, module: str) -> Path:
        if module in self._files:
            return self._files[module]
        loaded = sys.modules.get(module)
        file = getattr(loaded, "__file__", None)
        if file is None:
            found = importlib.util.find_spec(module)
            file = None if found is None else found.origin
        if file is None:
            raise ModuleNotFoundError(f"{module}: has no source file, which the keys of its steps are made of")
        return Path(file)

    def _hash(self, files: set[Path], libraries: set[str]) -> str:
        versions = {name: library_versions()[name] for name in sorted(libraries)}
        digest = hashlib.sha256(json.dumps([sys.version_info[:2], versions]).encode())
        named = {
            path.relative_to(self._root).as_posix() if self._root in path.parents else path.name: path for path in files
        }
        for name, path in sorted(named.items()):
            digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()


def _nodes(tree: ast.AST, *, into_functions: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not into_functions:
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        yield node
        yield from _nodes(node, into_functions=into_functions)


def _contents(folder: Path) -> Iterator[Path]:
    """Files of a package that its code may read, sources included."""
    return (
        path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".md") and "__pycache__" not in path.parts
    )


def _data_files(folder: Path) -> Iterator[Path]:
    """Files that are not Python in a package's folder, and in its subfolders that are not packages."""
    for path in folder.iterdir():
        if path.is_dir():
            if not (path / "__init__.py").exists() and path.name != "__pycache__":
                yield from _data_files(path)
        elif path.suffix not in (".py", ".pyc", ".md"):
            yield path


@functools.cache
def source_tree() -> SourceTree:
    """Return the tree that this code was imported from."""
    return SourceTree(Path(__file__).resolve().parents[2])


@functools.cache
def code_version() -> str:
    """Hash of all our sources and of the library versions."""
    return source_tree().whole()
