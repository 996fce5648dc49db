"""The dataset contract: everything that is fixed about a built dataset, in pure Python.

    OUT/
      dataset.json             commit record, written last: counts, tokenizer, hash of every file  `DatasetInfo`
      strata.json              the range of samples of each (source, task)                         `Stratum`
      lengths.npy              uint16 (N, 2): tokens of prefix and response of each sample
      shards/                  MDS shards with the columns of `columns`; index.json                `ShardInfo`
      tokenizer/tokenizer.json
      curated/, ledger/        Parquet: kept records as text; the outcome of every row
      eval/                    JSON lines: held-out records                                        `EvalRecord`
      report/, README.md, croissant.json, mix.lock.yaml

The tokens of a sample follow one template, by which the pipeline writes samples and the trainer prompts the model:

    <|im_start|> condition tags… instruction <|im_end|> | response <|box_end|>
    └────────────────── prefix ─────────────────────┘   └───── response ─────┘

`corpus.dataset` reads a dataset by this contract.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import IO, Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from corpus.schema import Count, Described, Model, SchemaError, Sha256, parse, parse_json, shown
from corpus.turns import LABELS

FORMAT = "millrace-dataset/2"
OUTDATED = {"millrace-dataset/1": "its samples have the condition tags in another order (direct first)"}
"""Earlier format to the reason why it cannot be used."""

# --- Template of a sample ---------------------------------------------------------------------------------------------

START = "<|im_start|>"
END_OF_PREFIX = "<|im_end|>"
END_OF_RESPONSE = "<|box_end|>"
PAD = "<|endoftext|>"

CONDITION_TAGS: Mapping[str, str] = {
    "synth": "<|quad_end|>",
    "noisy": "<|quad_start|>",
    "cot": "<|object_ref_end|>",
    "direct": "<|object_ref_start|>",
}
"""Condition name to its tag, in the order in which a sample has them: that of the published model HRM-Text-1B."""

SPECIAL_TOKENS: tuple[str, ...] = (PAD, START, END_OF_PREFIX, END_OF_RESPONSE, *CONDITION_TAGS.values())
"""All tags. Text never tokenizes to one of them."""

TEMPLATE: Mapping[str, Any] = {
    "start": START,
    "end_of_prefix": END_OF_PREFIX,
    "end_of_response": END_OF_RESPONSE,
    "pad": PAD,
    "conditions": [[name, tag] for name, tag in CONDITION_TAGS.items()],
    "labels": dict(LABELS),
}
"""The template as JSON, which checkpoints carry for readers that do not know this module."""


def order_conditions(conditions: Iterable[str]) -> tuple[str, ...]:
    """Return the conditions in template order, without repeats.

    Raises
    ------
    ValueError
        A name is not a condition.
    """
    names = set(conditions)
    unknown = sorted(names - set(CONDITION_TAGS))
    if unknown:
        raise ValueError(f"unknown condition {unknown[0]!r}: expected some of {', '.join(CONDITION_TAGS)}")
    return tuple(name for name in CONDITION_TAGS if name in names)


def prefix_ids(special: Mapping[str, int], conditions: Iterable[str], instruction: Sequence[int]) -> list[int]:
    """Return the token ids of a prefix, after which the model writes a response.

    Parameters
    ----------
    special
        Tag to token id, for all of `SPECIAL_TOKENS`.
    conditions
        Condition names, in any order.
    instruction
        Token ids of the instruction's text.
    """
    tags = [special[CONDITION_TAGS[name]] for name in order_conditions(conditions)]
    return [special[START], *tags, *instruction, special[END_OF_PREFIX]]


ESCAPE_MARK = "\ufdd0"
"""First character of the codes by which an exported model keeps tags in a text from being read as tags."""


def without_special_tokens(tokenizer_json: str) -> str:
    """Return a `tokenizer.json` that encodes text only: it matches no special tokens, adds none and cuts nothing.

    In that of an exported model, the normalizer's steps that restore escaped text are removed too.
    """
    content = json.loads(tokenizer_json)
    normalizer = content.get("normalizer") or {}
    steps = normalizer.get("normalizers", [])
    rest = [step for step in steps if not str(step.get("pattern", {}).get("String", "")).startswith(ESCAPE_MARK)]
    if len(rest) < len(steps):
        content["normalizer"] = {**normalizer, "normalizers": rest} if len(rest) > 1 else rest[0] if rest else None
    content["added_tokens"] = []
    content["post_processor"] = content["truncation"] = content["padding"] = None
    return json.dumps(content, ensure_ascii=False)


# --- Files ------------------------------------------------------------------------------------------------------------

COMMIT = "dataset.json"
"""Written last: a folder without it is not a dataset."""
PUBLISHING = ".publishing.json"
"""List of the files of an unfinished publication, during which `COMMIT` is absent."""
STRATA = "strata.json"
LENGTHS = "lengths.npy"
SHARD_INDEX = "shards/index.json"
TOKENIZER = "tokenizer/tokenizer.json"
LOCK = "mix.lock.yaml"
CARD = "README.md"
CROISSANT = "croissant.json"
"""Metadata in the format Croissant; datasets of earlier versions lack it."""
LEDGER_FILES = "ledger/files.parquet"
LEDGER_COLUMNS = "ledger/columns.parquet"
"""Columns that are in no pair; datasets of earlier versions lack it."""
REPORT = "report/index.html"

REQUIRED = (SHARD_INDEX, STRATA, LENGTHS, TOKENIZER, LOCK, CARD, LEDGER_FILES, REPORT)
"""Files that every dataset has, besides `COMMIT`, shards and parts of the ledger."""
FILES = (CARD, CROISSANT, LENGTHS, LOCK, STRATA)
"""Files at the top of the folder, besides `COMMIT`."""
FOLDERS = ("shards", "tokenizer", "curated", "eval", "ledger", "report")
"""Subfolders that belong to the dataset: a build refuses a location with other files in them."""
FINGERPRINTED = (SHARD_INDEX, LENGTHS, STRATA, TOKENIZER)
"""Files whose concatenated contents the fingerprint is the sha256 of."""


def shard_file(number: int) -> str:
    """Path of a shard."""
    return f"shards/shard.{number:05}.mds"


def curated_file(part: int) -> str:
    """Path of a part of the curated records."""
    return f"curated/part-{part:05}.parquet"


def ledger_file(part: int) -> str:
    """Path of a part of the ledger's rows."""
    return f"ledger/rows-{part:05}.parquet"


def eval_file(source: str) -> str:
    """Path of the records of an eval source."""
    return f"eval/{source}.jsonl"


TokenDtype = Literal["uint16", "uint32"]


def token_dtype(vocab_size: int) -> TokenDtype:
    """Return the type of stored token ids: the smallest that holds every id below `vocab_size`."""
    return "uint16" if vocab_size <= 2**16 else "uint32"


def columns(dtype: TokenDtype) -> dict[str, str]:
    """Return each column of the MDS shards with its encoding, in MDS's alphabetical order; `row_id` has 16 bytes."""
    return {"prefix_len": "uint16", "row_id": "bytes", "tokens": f"ndarray:{dtype}"}


COLUMN_SIZES: Mapping[str, int | None] = {"prefix_len": 2, "row_id": None, "tokens": None}
"""Bytes of a value of each column; None where they vary."""


def fingerprint(files: Iterable[IO[bytes]]) -> str:
    """Return the sha256 over the contents of the `FINGERPRINTED` files, in their order."""
    digest = hashlib.sha256()
    for file in files:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


# --- dataset.json and strata.json -------------------------------------------------------------------------------------


class DatasetError(Exception):
    """A dataset that cannot be used; the message names the file, what was found, what was expected, and what to do."""


MAX_VOCABULARY = 2**24
"""Largest number of token ids; the embedding of a larger vocabulary would not fit any device."""
MAX_REPEAT = 10_000
"""Most draws of a sample in one epoch."""


def is_inside(path: str) -> bool:
    """Whether a path from an index is relative and stays inside of its folder."""
    pure = PurePosixPath(path)
    return bool(pure.parts) and not pure.is_absolute() and ".." not in pure.parts and not set(path) & set("\\:\0")


def _checked_path(path: str) -> str:
    if not is_inside(path):
        raise ValueError(f"{path!r} leads outside of the dataset")
    return path


FilePath = Annotated[str, AfterValidator(_checked_path)]
"""Path relative to the dataset, which does not leave it."""


class FileInfo(Described):
    """Size and hash of a file."""

    bytes: Count
    sha256: Sha256


class TokenizerInfo(Described):
    """The tokenizer that the samples were encoded with."""

    file: FilePath
    sha256: Sha256
    vocab_size: Annotated[int, Field(gt=0, le=MAX_VOCABULARY)]
    """Largest token id + 1."""
    token_dtype: TokenDtype = "uint16"
    """Type of the token ids in the shards: `token_dtype` of `vocab_size`."""
    special: dict[str, Count]
    """Tag to token id, for all of `SPECIAL_TOKENS`."""

    @model_validator(mode="after")
    def _is_consistent(self) -> "TokenizerInfo":
        if self.token_dtype != (expected := token_dtype(self.vocab_size)):
            raise ValueError(
                f"token_dtype is {self.token_dtype}, expected {expected} for a vocabulary of {self.vocab_size:,}"
            )
        for tag in SPECIAL_TOKENS:
            if tag not in self.special:
                raise ValueError(f"lacks the special token {tag}")
            if self.special[tag] >= self.vocab_size:
                raise ValueError(f"{tag} has the id {self.special[tag]}, expected one below vocab_size")
        if len(set(self.special.values())) != len(self.special):
            raise ValueError(f"two special tokens have the same id in {shown(self.special)}, expected different ids")
        return self


class SourceCounts(Described):
    """How many rows of a source came in, and what became of them."""

    role: Literal["train", "eval"]
    rows: Count
    """Rows read, including those that could not be parsed."""
    pairs: Count
    """Instruction-response pairs made from them."""
    kept: Count
    dropped: dict[str, Count]
    """Reason (`corpus.outcome.Outcome`) to the number of pairs, and rows without a pair, dropped for it."""
    tokens: Count
    """Tokens of its samples."""


class EvalInfo(Described):
    """The held-out records."""

    files: tuple[FilePath, ...]
    """One file for each eval source."""
    rows: Count


class DatasetInfo(Described):
    """Content of dataset.json."""

    format: str = FORMAT
    name: str
    fingerprint: str
    """Identity of the samples: `fingerprint` of the `FINGERPRINTED` files."""
    samples: Count
    tokens: Count
    """Tokens of all samples: `prefix_tokens` + `response_tokens`."""
    prefix_tokens: Count
    response_tokens: Count
    max_tokens: Count
    """Tokens of the longest sample."""
    epochs: Annotated[int, Field(gt=0)] | None = None
    """Epochs that the samples are enough for: of some strata, only what these draw was sharded. None: all of it was."""
    tokenizer: TokenizerInfo
    shards: Count
    """Number of shards."""
    counts: dict[str, SourceCounts]
    """By source, in the manifest's order."""
    eval: EvalInfo
    files: dict[FilePath, FileInfo]
    """Every file of the dataset but `COMMIT`, by its path."""
    lock_sha256: Sha256
    """sha256 of `LOCK`."""
    build_key: str
    """Hash of the manifest, the inputs and the code that built the dataset."""
    versions: dict[str, str]
    """Library to the version it was built with."""

    @model_validator(mode="after")
    def _is_consistent(self) -> "DatasetInfo":
        if self.tokens != self.prefix_tokens + self.response_tokens:
            raise ValueError(
                f"tokens is {self.tokens:,}, expected {self.prefix_tokens + self.response_tokens:,}: prefix_tokens + "
                "response_tokens"
            )
        if not self.max_tokens <= self.tokens <= self.samples * self.max_tokens:
            raise ValueError(
                f"tokens is {self.tokens:,}, expected at least max_tokens ({self.max_tokens:,}) and at most that for "
                f"each of {self.samples:,} samples"
            )
        return self

    def files_of(self, prefix: str) -> list[str]:
        """Return the paths that begin with `prefix`, in order."""
        return sorted(path for path in self.files if path.startswith(prefix))

    @property
    def curated(self) -> list[str]:
        """Paths of the curated records, in sample order."""
        return self.files_of("curated/")

    @property
    def ledger(self) -> list[str]:
        """Paths of the ledger's rows."""
        return self.files_of("ledger/rows-")


class Stratum(Described):
    """Samples [begin, end) of the dataset, drawn as one group."""

    source: str
    task: str
    begin: Count
    end: Count
    max_per_epoch: Count | None
    """Most draws of an epoch; None: no bound."""
    repeat: Annotated[int, Field(ge=1, le=MAX_REPEAT)]
    """How many times an epoch draws each sample, where `max_per_epoch` allows."""

    @property
    def samples(self) -> int:
        """Number of samples."""
        return self.end - self.begin

    @property
    def per_epoch(self) -> int:
        """Number of draws in an epoch: every sample `repeat` times, at most `max_per_epoch`."""
        wanted = self.samples * self.repeat
        return wanted if self.max_per_epoch is None else min(wanted, self.max_per_epoch)


class StrataInfo(Described):
    """Content of strata.json."""

    strata: tuple[Stratum, ...]


class ShardFile(Described):
    """The file of a shard."""

    basename: str
    """Name in the folder shards/."""
    bytes: Count
    hashes: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{8,128}$")]]
    """Contains xxh64, in hex."""

    @model_validator(mode="after")
    def _is_plain_and_hashed(self) -> "ShardFile":
        if not is_inside(self.basename) or "/" in self.basename or not self.basename.endswith(".mds"):
            raise ValueError(f"the name {self.basename!r} leads outside of shards/ or does not end in .mds")
        if "xxh64" not in self.hashes:
            raise ValueError(f"{self.basename} has no xxh64 hash")
        return self


class ShardInfo(Described):
    """A plain, uncompressed MDS shard, as its entry in shards/index.json describes it."""

    version: Literal[2]
    format: Literal["mds"]
    compression: None
    hashes: tuple[str, ...]
    size_limit: Count | None
    column_names: tuple[str, ...]
    column_encodings: tuple[str, ...]
    column_sizes: tuple[int | None, ...]
    """Bytes of a value of each column; None where they vary."""
    samples: Annotated[int, Field(ge=1, le=2**32)]
    raw_data: ShardFile
    zip_data: None

    @model_validator(mode="after")
    def _has_the_columns(self) -> "ShardInfo":
        found = dict(zip(self.column_names, self.column_encodings, strict=False))
        if found not in map(columns, get_args(TokenDtype)) or len(self.column_encodings) != len(found):
            expected = f"{columns('uint16')}, or ndarray:uint32 for tokens"
            raise ValueError(f"the columns are {shown(found)}, expected {expected} (others may run code when read)")
        if dict(zip(self.column_names, self.column_sizes, strict=False)) != COLUMN_SIZES:
            raise ValueError(f"column_sizes is {shown(self.column_sizes)}, expected the sizes {COLUMN_SIZES}")
        if self.raw_data.bytes < 4 * (self.samples + 1):
            raise ValueError(
                f"{self.raw_data.basename} has {self.raw_data.bytes:,} bytes, too few for {self.samples:,} samples"
            )
        return self

    @property
    def token_dtype(self) -> str:
        """Type of the token ids."""
        encodings = dict(zip(self.column_names, self.column_encodings, strict=True))
        return encodings["tokens"].removeprefix("ndarray:")


class ShardIndex(Described):
    """Content of shards/index.json."""

    version: Literal[2]
    shards: tuple[ShardInfo, ...]


class EvalRecord(Described):
    """A line of a file of held-out records."""

    row_id: str
    source: Annotated[str, Field(min_length=1)]
    task: str
    instruction: Annotated[str, Field(min_length=1)]
    response: Annotated[str, Field(min_length=1)] | None
    """The reference; None for a prompt without one."""
    condition: tuple[Literal["synth", "noisy", "cot", "direct"], ...]


def parse_dataset(content: bytes, where: str) -> DatasetInfo:
    """Parse and check dataset.json.

    Parameters
    ----------
    content
        The file's bytes.
    where
        The file's path or URL, for error messages.

    Raises
    ------
    DatasetError
        The content is not JSON, has another format, or lacks a field or has one of another type.
    """
    try:
        info = parse(DatasetInfo, content)
    except SchemaError as error:
        problem = _other_format(content) or str(error)
    else:
        if "format" in info.model_fields_set and info.format == FORMAT:
            return info
        problem = _other_format(content) or "has no format"
    raise DatasetError(f"{where}: {problem}; build the dataset again")


def _other_format(content: bytes) -> str | None:
    """Return why a dataset.json that does not fit the schema is not of this format; None if it is."""
    try:
        found = parse_json(content)
    except SchemaError:
        return None
    if not isinstance(found, dict):
        return f"is {shown(found)}, expected an object"
    if (name := found.get("format")) != FORMAT:
        reason = f": {OUTDATED[str(name)]}" if str(name) in OUTDATED else ""
        return f"has format {shown(name)}, expected {FORMAT!r}{reason}"
    return None


def parse_strata(content: bytes, where: str, *, samples: int) -> tuple[Stratum, ...]:
    """Parse and check strata.json.

    Parameters
    ----------
    content
        The file's bytes.
    where
        The file's path or URL, for error messages.
    samples
        Samples of the dataset, which the strata must cover without gap or overlap.

    Raises
    ------
    DatasetError
        The content is something else, or the strata do not cover the samples.
    """
    strata = _parse(StrataInfo, content, where).strata
    end = 0
    names = set()
    for stratum in strata:
        name = shown(f"source {stratum.source}, task {stratum.task}", quoted=False)
        if stratum.begin != end or stratum.end <= stratum.begin:
            raise DatasetError(
                f"{where}: {name}: covers [{stratum.begin:,}, {stratum.end:,}), expected it to begin at {end:,} and to "
                "have samples; build the dataset again"
            )
        if (stratum.source, stratum.task) in names:
            raise DatasetError(f"{where}: {name}: has two ranges, expected one; build the dataset again")
        names.add((stratum.source, stratum.task))
        end = stratum.end
    if end != samples:
        raise DatasetError(f"{where}: covers {end:,} samples, expected {samples:,}; build the dataset again")
    return strata


def parse_index(content: bytes, where: str, *, info: DatasetInfo) -> tuple[ShardInfo, ...]:
    """Parse and check shards/index.json.

    Parameters
    ----------
    content
        The file's bytes.
    where
        The file's path or URL, for error messages.
    info
        Content of dataset.json, which determines the type of the tokens, the number of samples and the shards.

    Raises
    ------
    DatasetError
        The content is something else, or contradicts dataset.json.
    """
    shards = _parse(ShardIndex, content, where).shards
    expected = info.tokenizer.token_dtype
    names = set()
    for shard in shards:
        file = shard.raw_data
        listed = info.files.get(f"shards/{file.basename}")
        if shard.token_dtype != expected:
            fault = f"has {shard.token_dtype} tokens, expected {expected} for a vocabulary as in {COMMIT}"
        elif listed is None:
            fault = f"is not listed in {COMMIT}"
        elif listed.bytes != file.bytes:
            fault = f"has {file.bytes:,} bytes, expected {listed.bytes:,} as in {COMMIT}"
        elif file.basename in names:
            fault = "is listed twice"
        else:
            names.add(file.basename)
            continue
        raise DatasetError(f"{where}: {shown(file.basename, quoted=False)} {fault}; build the dataset again")
    if len(shards) != info.shards:
        raise DatasetError(
            f"{where}: lists {len(shards):,} shards, expected {info.shards:,} as in {COMMIT}; build the dataset again"
        )
    if (found := sum(shard.samples for shard in shards)) != info.samples:
        raise DatasetError(
            f"{where}: the shards hold {found:,} samples, expected {info.samples:,} as in {COMMIT}; build the dataset "
            "again"
        )
    return shards


def parse_eval_record(line: bytes, where: str) -> EvalRecord:
    """Parse and check a line of a file of held-out records, which `where` names; like `parse_strata`."""
    return _parse(EvalRecord, line, where)


def _parse(model: type[Model], content: bytes, where: str) -> Model:
    try:
        return parse(model, content)
    except SchemaError as error:
        raise DatasetError(f"{where}: {error}; build the dataset again") from None
