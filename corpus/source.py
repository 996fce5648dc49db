"""What a mix manifest says about one source: where its rows are, and how they become pairs.

A `SourceSpec` names files (or a generator); `corpus.discover` turns it into a
list of files, and `corpus.read` turns each file into pairs.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from corpus.adapters import ADAPTERS
from corpus.adapters.templates import template_columns
from corpus.config import Config, closest
from corpus.contract import order_conditions
from corpus.formats import SUFFIXES

Format = Literal["jsonl", "json", "csv", "tsv", "yaml", "parquet", "arrow", "webdataset"]

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class FieldMap(Config):
    """Pairs from columns by template, for rows that no adapter knows.

    In a template, `{column}` stands for the column's value as text, `{a.b}` for the value inside an object, `{a.0}`
    for an item of a list, `{column?}` for a value that may be absent (then it is the empty text). `{{` and `}}` are
    literal braces.
    """

    instruction: str
    response: str | None = None
    """A template that is one column alone, and that column a list of texts, gives one pair for each distinct text.
    Only an eval source may go without: its rows are prompts."""
    condition: tuple[str, ...] | str = ()
    """Condition names, or a template that yields them separated by commas or spaces."""
    task: str | None = None
    """Template of the stratum; takes precedence over the source's `task`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key, template in (("instruction", self.instruction), ("response", self.response)):
            if template is not None and not template_columns(template):
                raise ValueError(f"{key}: the template {template!r} names no column; expected for example '{{{key}}}'")
        if self.task is not None:
            template_columns(self.task)
        if isinstance(self.condition, str):
            template_columns(self.condition)
        else:
            order_conditions(self.condition)
        return self


class SourceSpec(Config):
    """One entry of `sources:` in a mix manifest. Of duplicates, the source that stands earlier in the manifest wins."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    path: str | list[str] | None = None
    """File, folder (recursive), glob or fsspec URL, or a list of them; relative to the manifest's folder."""
    generator: str | None = None
    """Name of a family in corpus.generators; takes the place of `path`."""
    rows: Annotated[int, Field(ge=1)] | None = None
    """Generator only: how many rows."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Generator only."""
    split: Literal["train", "heldout"] = "train"
    """Generator only."""
    exclude: tuple[str, ...] = ()
    """Globs on the path relative to the source; `*` also matches `/`."""
    role: Literal["train", "eval"] = "train"
    """Rows of an eval source go to OUT/eval/, never to shards; train records that hold one of them are dropped."""
    format: Format | None = None
    """Guessed for each file when absent."""
    adapter: str | None = None
    """Guessed for each file when absent."""
    map: FieldMap | None = None
    task: Annotated[str, StringConstraints(pattern=r"^(file|source|column:.+)$")] = "file"
    """Stratum of a pair: "file" (relative path without suffixes), "source", or "column:NAME"."""
    condition: tuple[str, ...] = ()
    """Added to every pair."""
    max_per_epoch: Annotated[int, Field(ge=1)] | None = None
    """At most so many samples of each of the source's strata in one epoch."""
    repeat: Annotated[int, Field(ge=1)] = 1
    """How often each sample of the source is seen in one epoch."""
    guard: dict[str, Share] = Field(default_factory=dict)
    """Largest share of the source's rows that may be dropped for one reason before a build stops, by outcome."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.path is None) == (self.generator is None):
            found = "neither" if self.path is None else "both"
            raise ValueError(f"expected exactly one of path and generator, found {found}")
        if self.path is not None and (not self.path or not all(self.path)):
            raise ValueError("path is empty; expected a file, folder, glob or URL")
        if self.generator is not None and self.rows is None:
            raise ValueError("a generator needs rows: how many rows it yields")
        if self.generator is None:
            for key in ("rows", "seed", "split"):
                if key in self.model_fields_set:
                    raise ValueError(f"{key} belongs to a generator; this source has a path")
        if self.adapter is not None and self.map is not None:
            raise ValueError("expected at most one of adapter and map, found both")
        if self.map is not None and self.map.response is None and self.role == "train":
            raise ValueError("map: response is missing; only a source with role: eval may have prompts alone")
        if self.adapter is not None and self.adapter not in ADAPTERS:
            raise ValueError(f"unknown adapter {self.adapter!r}{closest(self.adapter, list(ADAPTERS))}")
        order_conditions(self.condition)
        return self


def stratum_of(spec: SourceSpec, path: str) -> str:
    """Stratum of a file's pairs, unless a column states it: its relative path without suffixes, or the source's name.

    A generator's rows are one stratum, however many virtual files they are split into.
    """
    if spec.task != "file":
        return spec.name
    if spec.generator is not None:
        return spec.generator
    path = path.removesuffix(".gz").removesuffix(".zst")
    suffix = next((suffix for suffix in SUFFIXES if path.lower().endswith(suffix)), "")
    return path[: len(path) - len(suffix)] or path
