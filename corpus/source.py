"""What a mix manifest states about one source: where its rows are, and how they become pairs.

A `SourceSpec` names files (or a generator); `corpus.discover` turns it into a
list of files, and `corpus.pairs` turns each file into pairs.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from corpus.adapters import ADAPTERS
from corpus.adapters.base import as_text
from corpus.adapters.named_chat import Role
from corpus.adapters.templates import template_columns
from corpus.config import Config, closest
from corpus.contract import MAX_REPEAT, order_conditions
from corpus.eval_sets import EVAL_SETS
from corpus.formats import find_format, formats, split_suffix
from corpus.formats.base import Format, Layout
from corpus.formats.external import from_reader
from corpus.formats.nesting import steps_of
from corpus.formats.stream import without_compression
from corpus.plugins import Plugin, resolve

Share = Annotated[float, Field(ge=0.0, le=1.0)]
NameOrPlugin = Annotated[str | Plugin, BeforeValidator(resolve)]
"""A name of this package, or `module:name` of a module beside the manifest."""


def _checked_path(path: str) -> str:
    steps_of(path)
    return path


def _checked_encoding(name: str) -> str:
    try:
        "".encode(name)
    except LookupError:
        known = "utf-8, utf-16, utf-32, cp1252, latin-1, gbk, big5, shift_jis, euc_kr, cp1251, koi8-r"
        raise ValueError(f"unknown encoding {name!r}; expected for example one of {known}") from None
    return name


def _with_text_keys(roles: Any) -> Any:
    """Return roles with the text of each key, which may be a number or boolean in YAML."""
    return {as_text(key, "a role"): role for key, role in roles.items()} if isinstance(roles, dict) else roles


class FieldMap(Config):
    """Pairs from columns by template, for rows that no adapter fits.

    In a template, `{column}` stands for the column's value as text, `{a.b}` for the value inside an object, `{a.0}`
    for an item of a list, `{a.*.b}` for that of every item, joined by newlines, and `{options[answer]}` for the item
    of `options` that the field `answer` names: by key or label, by number from 0, or by letter. `{column?}` is a value
    that may be absent (then it is empty). `{{` and `}}` are literal braces.
    """

    instruction: str
    response: str | None = None
    """A template that is a single column, whose value is a list of texts, gives one pair for each distinct text.
    Optional for an eval source, whose rows may be prompts."""
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


class ChatMap(Config):
    """Conversations whose columns have other names than the adapters know; all are paths, as in `FieldMap`."""

    turns: str = Field(min_length=1)
    """The list of turns."""
    role: str = Field(min_length=1)
    """In a turn: who speaks."""
    text: str = Field(min_length=1)
    """Field of a turn that holds its text."""
    roles: Annotated[dict[str, Role], BeforeValidator(_with_text_keys)] = Field(default_factory=dict)
    """Value of `role` to system, user, assistant, call (of a tool) or tool (its result); the usual spellings need no
    entry."""


class SourceSpec(Config):
    """One entry of `sources:` in a mix manifest. Of duplicates, the pair of the earlier source is kept."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    path: str | list[str] | None = None
    """File, folder (recursive), glob or fsspec URL, or a list of them; relative to the manifest's folder. Beside `set`:
    the folder in which the set's files are searched for, or one of them."""
    set: str | None = None
    """Name of a public evaluation set in `corpus.eval_sets`, such as "gsm8k", with `role: eval`: its test questions,
    from the folder `path`, or without `path` from Hugging Face (which needs the extra `hub`)."""
    generator: str | None = None
    """Name of a family in `corpus.generators`; instead of `path`."""
    rows: Annotated[int, Field(ge=1)] | Annotated[str, AfterValidator(_checked_path)] | None = None
    """Number of rows of a generator; or the path to the rows inside a file's values, such as
    `data.*.paragraphs.*.qas`, whose rows also have the fields of the objects around them."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Generator only."""
    split: Literal["train", "heldout"] = "train"
    """Generator only."""
    exclude: tuple[str, ...] = ()
    """Globs on the path relative to the source; `*` also matches `/`."""
    role: Literal["train", "eval"] = "train"
    """Rows of an eval source go to OUT/eval/, never to shards; train records that contain one of them are dropped."""
    format: NameOrPlugin | None = None
    """Format of all files; detected for each file when absent. `module:reader` names a function from a binary file
    (decompressed, forward only) to an iterable of rows."""
    encoding: Annotated[str, AfterValidator(_checked_encoding)] | None = None
    """Encoding of text files without a byte-order mark, such as "cp1252", "gbk" or "utf-16-le"; UTF-8 when absent."""
    quote: Literal['"', "none"] | None = None
    """Quote of CSV and TSV cells; "none": quotes are letters like any other. When absent, TSV files in which quotes
    do not balance are read without."""
    lines: Literal["each", "alternating", "blocks"] | None = None
    """Rows of `format: text`: each line is a `text`; lines are `instruction` and `response` in turn; or the first line
    of a block between blank lines is the `instruction`, the others are its `response`."""
    adapter: NameOrPlugin | None = None
    """Adapter of all files; detected for each file when absent. `module:function` names a function from a row to an
    iterable of (instruction, response)."""
    map: FieldMap | None = None
    chat: ChatMap | None = None
    task: Annotated[str, StringConstraints(pattern=r"^(file|source|column:.+)$")] = "file"
    """Stratum of a pair: "file" (relative path without suffixes), "source", or "column:NAME"."""
    condition: tuple[str, ...] = ()
    """Added to every pair."""
    max_per_epoch: Annotated[int, Field(ge=1, le=2**53)] | None = None
    """Largest number of samples from each of the source's strata in one epoch."""
    repeat: Annotated[int, Field(ge=1, le=MAX_REPEAT)] = 1
    """Number of times that each sample of the source is drawn in one epoch."""
    near_dedup: bool = True
    """Whether the source takes part in near-duplicate removal; false keeps its templates, and all that is like them."""
    guard: dict[str, Share] = Field(default_factory=dict)
    """Largest share of the source's rows, or of one of its files', that may be dropped for one reason before a build
    stops, by outcome; for `truncated` and `unreadable`, the share of its files."""
    ignore: tuple[str, ...] = ()
    """Columns that hold context by their names (system, history, passage, options, tools, …) and may stay unused."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.set is not None:
            self._check_set(self.set)
        elif (self.path is None) == (self.generator is None):
            found = "neither" if self.path is None else "both"
            raise ValueError(f"expected exactly one of path and generator, found {found}")
        if self.path is not None and (not self.path or not all(self.path)):
            raise ValueError("path is empty; expected a file, folder, glob or URL")
        if self.generator is not None and self.rows is None:
            raise ValueError("a generator needs rows: how many rows it yields")
        if self.generator is None:
            for key in ("seed", "split"):
                if getattr(self, key) != type(self).model_fields[key].default:  # a lock file states the defaults
                    raise ValueError(f"{key} belongs to a generator; this source has a path")
            if isinstance(self.rows, int):
                raise ValueError(
                    "a number of rows belongs to a generator; this source has a path, for which `rows` is the path to "
                    "the rows inside a file's values, such as data.*.questions"
                )
        elif isinstance(self.rows, str):
            raise ValueError(f"a generator needs a number of rows (found {self.rows!r})")
        stated = [key for key in ("adapter", "map", "chat") if getattr(self, key) is not None]
        if len(stated) > 1:
            raise ValueError(f"expected at most one of adapter, map and chat, found {' and '.join(stated)}")
        if self.map is not None and self.map.response is None and self.role == "train":
            raise ValueError("map: response is missing; only a source with role: eval may have prompts alone")
        if isinstance(self.adapter, str) and self.adapter not in ADAPTERS:
            raise ValueError(f"unknown adapter {self.adapter!r}{closest(self.adapter, list(ADAPTERS))}")
        if (self.format == "text") != (self.lines is not None):
            raise ValueError("format: text and lines: each, alternating or blocks go together; found one of them")
        if isinstance(self.format, str) and self.format not in formats():
            raise ValueError(f"unknown format {self.format!r}; expected one of {', '.join(formats())}")
        order_conditions(self.condition)
        return self

    def _check_set(self, name: str) -> None:
        if name not in EVAL_SETS:
            raise ValueError(f"unknown set {name!r}; expected one of {', '.join(EVAL_SETS)}")
        if self.role != "eval":
            raise ValueError(f"set: {name} names test questions, which are not for training; state role: eval too")
        if self.generator is not None or not isinstance(self.path, str | None):
            raise ValueError("beside set, expected path: FOLDER of the set's files, or no path for Hugging Face")

    @property
    def states_pairs(self) -> bool:
        """Whether the manifest itself states how rows become pairs, so that no adapter is detected."""
        return self.map is not None or self.chat is not None

    @property
    def layout(self) -> Layout:
        """What the source states about the content of its files."""
        return Layout(quote=self.quote, rows=self.rows if isinstance(self.rows, str) else None, lines=self.lines)

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """The plugins that decide how the source's files are read."""
        return tuple(value for value in (self.format, self.adapter) if isinstance(value, Plugin))

    def format_of(self, name: str) -> Format:
        """Return the format called `name` in a `SourceFile` of this source."""
        if isinstance(self.format, Plugin):
            return from_reader(self.format.load(), self.format.reference)
        return find_format(name)


def stratum_of(spec: SourceSpec, path: str) -> str:
    """Return the stratum of a file's pairs, unless a column states it: the path without suffixes, or the source's name.

    All rows of a generator are one stratum, whatever number of virtual files they are split into.
    """
    if spec.task != "file":
        return spec.name
    if spec.generator is not None:
        return spec.generator
    path = without_compression(path)
    return split_suffix(path)[0] or path
