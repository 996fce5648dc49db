"""Manifests: YAML and `key=value` overrides are validated into pydantic models.

Errors name the place in the manifest, what was found, and the closest known
key. Pipeline and trainer each declare their own models.
"""

import difflib
import sysconfig
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from corpus.storage.location import was_url
from corpus.storage.redact import redact, remember


class ConfigError(Exception):
    """A manifest that cannot be used; the message says where, why, and what to change."""


class Config(BaseModel):
    """Base of all manifest models: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)
    renamed: ClassVar[Mapping[str, str]] = {}
    """Former to present names of keys; the error about an unknown key suggests the present one."""


M = TypeVar("M", bound=BaseModel)


SHIPPED = (Path(__file__).parents[1] / "manifests", Path(sysconfig.get_path("data")) / "share/millrace/manifests")
"""Folders that may have the manifests that come with Millrace: that of a clone, and that of an installed package."""
MAX_BYTES = 4 << 20
"""Largest size of a manifest."""
MAX_VALUES = 50_000
"""Most values of a manifest once its aliases are expanded: those of about 5,000 sources."""


class _BoundedLoader(yaml.SafeLoader):
    """The loader of `yaml.safe_load`, except that a duplicate key is an error, and so are more than `MAX_VALUES`."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._composed = 0
        self._sizes: dict[int, int] = {}
        """Number of values of each complete node, with its aliases expanded, by the node's id."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        mark: Any = event.start_mark
        node = super().compose_node(parent, index)
        if node is None:
            return None
        self._composed += 1
        if not isinstance(event, yaml.AliasEvent):
            children: list[yaml.Node] = []
            if isinstance(node, yaml.SequenceNode):
                children = node.value
            elif isinstance(node, yaml.MappingNode):
                children = [child for pair in node.value for child in pair]
            self._sizes[id(node)] = 1 + sum(self._sizes[id(child)] for child in children)
        elif id(node) not in self._sizes:
            raise yaml.MarkedYAMLError(problem="an alias of a value that contains it", problem_mark=mark)
        if max(self._composed, self._sizes[id(node)]) > MAX_VALUES:
            raise yaml.MarkedYAMLError(
                problem=f"more than {MAX_VALUES:,} values, aliases expanded; expected a manifest",
                problem_mark=mark,
            )
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise yaml.MarkedYAMLError(problem="a key that is not a plain value", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} occurs twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_manifest(path: str | Path, model: type[M], overrides: Sequence[str] = ()) -> M:
    """Read a YAML manifest into `model`.

    Parameters
    ----------
    path
        The manifest. Its folder is `base` in the validation context, for fields that refer to files beside it.
    model
        Pydantic model to validate against.
    overrides
        `key=value` strings; `a.b=1` sets a nested key, `sources.0.rows=5` or `sources.NAME.rows=5` an item of a
        list (NAME matches an item's `name`). Values are read as YAML.

    Raises
    ------
    ConfigError
        The file is missing or not a YAML mapping, an override is malformed, or validation fails.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigError(f"{path}: is larger than {MAX_BYTES:,} bytes; expected a YAML manifest")
        text = content.decode("utf-8")
    except FileNotFoundError:
        if was_url(path):
            raise ConfigError(
                f"{redact(str(path))}: is a URL, expected a manifest on this machine; copy it here"
            ) from None
        found = shipped(path.name)
        hint = "" if found is None else f"; the one that comes with Millrace is {found}"
        raise ConfigError(f"{path}: there is no such manifest{hint}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; expected a YAML manifest") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start}); expected a YAML manifest") from None
    remember(text)
    try:
        data = yaml.load(text, _BoundedLoader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an invalid date or number
        raise ConfigError(f"{path}: is not valid YAML: {_yaml_problem(error)}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deep; expected a mapping of keys to values") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: holds {type(data).__name__}; expected a mapping of keys to values")
    for override in overrides:
        _apply(data, override)
    remember(data)
    try:
        return model.model_validate(data, context={"base": path.parent})
    except ValidationError as error:
        raise ConfigError(_explain(error, model, str(path))) from None


def shipped(name: str) -> Path | None:
    """Return the path of a manifest that comes with Millrace; None: it has none of this name."""
    return next((folder / name for folder in SHIPPED if (folder / name).is_file()), None)


def _yaml_problem(error: Exception) -> str:
    """Return what is wrong and where, without the lines around it, which may hold secrets."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    what = ": ".join(filter(None, (getattr(error, "context", None), getattr(error, "problem", None))))
    return f"line {mark.line + 1}, column {mark.column + 1}: {what}"


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r}: expected key=value, as in seed=1 or tokenizer.vocab_size=4096")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(f"override {override!r}: the value is not valid YAML") from None
    place: Any = data
    steps = key.split(".")
    for depth, step in enumerate(steps):
        last = depth == len(steps) - 1
        if isinstance(place, list):
            index = _item(place, step)
            if index is None:
                names = [str(item["name"]) for item in place if isinstance(item, dict) and "name" in item]
                raise ConfigError(f"override {override!r}: no item {step!r} here{closest(step, names)}")
            if last:
                place[index] = value
            else:
                place = place[index]
        elif isinstance(place, dict):
            if last:
                place[step] = value
            else:
                place = place.setdefault(step, {})
        else:
            raise ConfigError(f"override {override!r}: {'.'.join(steps[:depth])} is a plain value and has no {step!r}")


def _item(items: list[Any], step: str) -> int | None:
    for index, item in enumerate(items):
        if isinstance(item, dict) and item.get("name") == step:
            return index
    return int(step) if step.isdecimal() and int(step) < len(items) else None


def closest(word: str, known: Sequence[str]) -> str:
    """Complete a message about an unknown `word`: name the closest `known` one, or all of them if none is close."""
    match = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if match:
        return f"; did you mean {match[0]!r}?"
    return f"; known: {', '.join(sorted(known))}" if known else ""


def _explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    lines = []
    for problem in error.errors():
        place = ".".join(str(step) for step in problem["loc"]) or "the manifest"
        if problem["type"] == "extra_forbidden":
            lines.append(f"{where}: unknown key {place}{_suggestion(model, problem['loc'])}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            found = problem.get("input")
            shown = "" if problem["type"] in ("missing", "value_error") else f" (found {_short(found)})"
            lines.append(f"{where}: {place}: {message}{shown}")
    return "\n".join(lines)


def _short(value: Any) -> str:
    """Return a value for a message; a list or mapping, which may hold secrets, by its type only."""
    if isinstance(value, list | tuple | dict):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = redact(repr(value))
    return text if len(text) <= 80 else text[:77] + "..."


def _suggestion(model: type[BaseModel], loc: Sequence[int | str]) -> str:
    """End of the message about the unknown key at `loc`."""
    current: type[BaseModel] | None = model
    *parents, last = loc
    key = str(last)
    for step in parents:
        if current is not None and not isinstance(step, int) and step in current.model_fields:
            current = _model_in(current.model_fields[step].annotation)
    if current is None:
        return ""
    renamed = current.renamed if issubclass(current, Config) else {}
    return (
        f"; did you mean {renamed[key]!r}?"
        if key in renamed
        else closest(key, [field.alias or name for name, field in current.model_fields.items()])
    )


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the pydantic model inside an annotation such as `list[Source] | None`, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (list, tuple, dict, typing.Union, types.UnionType, typing.Annotated):
        for inner in typing.get_args(annotation):
            if found := _model_in(inner):
                return found
    return None
