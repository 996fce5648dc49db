"""The mix manifest: the sources of a dataset, and every rule applied to them.

`load` reads YAML and `key=value` overrides into a `Mix`. Paths of inputs (sources, a given tokenizer) are relative to
the manifest's folder, `out` to the current directory.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import ByteSize, Field, model_validator

from corpus.config import Config, ConfigError, closest, load_manifest
from corpus.eval_sets import source_keys
from corpus.outcome import FileOutcome, Outcome
from corpus.source import Share, SourceSpec
from corpus.storage.location import is_url, local_path
from corpus.storage.redact import redact
from pipeline.decontaminate.spec import DecontaminateSpec
from pipeline.dedup.near.spec import NearDedupSpec
from pipeline.ingest.spec import CleanSpec
from pipeline.rules.spec import RulesSpec

MAX_SAMPLE_TOKENS = 65_535
"""Sample lengths are stored as uint16."""


class ExactDedupSpec(Config):
    """Removal of pairs equal to another one up to white space and the instruction's letter case."""

    enabled: bool = True


class CapsSpec(Config):
    """Bounds on the pairs of a mix; bounds on an epoch are keys of each source."""

    responses_per_instruction: int | None = Field(default=None, ge=1)
    """Pairs with further responses to an instruction are dropped (`over_cap`); null keeps all."""


class GuardSpec(Config):
    """When a build stops because a source or a file yields nothing, or because one rule drops too much of it."""

    max_share: Share = 0.5
    """Largest share of the rows of a source, or of one of its files, that one rule may drop; 1 for any. A source's own
    `guard` comes first."""
    rules: dict[str, Share] = Field(default_factory=dict)
    """Other shares for some outcomes; the default is 1 for exact duplicates, for answers that the data excludes and for
    pairs that no epoch draws."""
    min_rows: int = Field(default=100, ge=1)
    """Train sources and files with fewer rows are not checked for shares: in them, a few rows are a large share."""
    allow_empty: tuple[str, ...] = ()
    """Sources that may yield no pair; any other source that yields none, or has a file that does, stops a build."""


class TokenizerSpec(Config):
    """The tokenizer: a byte-level BPE trained on the mix, or a given one."""

    file: str | None = None
    """A `tokenizer.json` to use instead of training one, or a folder that has one (a model in the Hugging Face format,
    a checkpoint); relative to the manifest's folder."""
    vocab_size: int = Field(default=65_536, ge=300, le=65_536)
    """Special tokens and the 256 bytes included. A given `file` may have more; its ids are then stored as uint32."""
    sample_bytes: ByteSize = Field(default=ByteSize(64 * 2**20), ge=1)
    """Size of the text to train on, about, drawn by seed from the pairs that are left after deduplication."""


class SampleSpec(Config):
    """Bounds on a sample in tokens, tags included."""

    max_tokens: int = Field(default=4096, ge=8, le=MAX_SAMPLE_TOKENS)
    overlong: Literal["truncate", "drop"] = "truncate"
    """A longer sample loses the end of its response with the end tag, or is dropped (`too_many_tokens`)."""
    min_response_tokens: int = Field(default=2, ge=1)
    """End tag included; pairs with shorter responses are dropped (`short_response`)."""


class ShardSpec(Config):
    """Sizes of shard files."""

    size: ByteSize = Field(default=ByteSize(64 * 2**20), ge=2**10, lt=2**32)
    """Largest size of a shard in bytes; a shard holds at least one sample."""


class Mix(Config):
    """A whole mix manifest."""

    name: str = Field(min_length=1)
    license: str | None = Field(default=None, min_length=1)
    """Licence of the mix as the Hub names it, such as `cc-by-4.0`, for the dataset card; null: not stated."""
    out: str = Field(default="out/mix", min_length=1)
    """Folder or fsspec URL of the dataset, relative to the current directory."""
    root: str | None = None
    """Folder or fsspec URL that relative paths of sources start from; null: the manifest's folder."""
    seed: int = Field(default=0, ge=0)
    """Seed of the shuffle and of the tokenizer's sample."""
    epochs: int | None = Field(default=None, ge=1)
    """Epochs that the dataset is for: of a stratum, no more than epochs x `max_per_epoch` pairs are tokenized and
    sharded, chosen by seed after curation; the others are dropped (`not_drawn`). null: all are kept, for any number."""
    draw_margin: float | None = Field(default=None, ge=1, allow_inf_nan=False)
    """Draw from large strata before the expensive stages: of a stratum, only draw_margin x epochs x `max_per_epoch`
    pairs, chosen by the same seed, are compared for near duplicates and decontaminated. What is left differs a little
    from that of a build without it: a duplicate of a pair that was not drawn stays. A stratum of which curation leaves
    fewer pairs than the epochs draw stops the build. null: all pairs are curated."""
    sources: list[SourceSpec] = Field(min_length=1)
    """In order of priority: among duplicates the pair of the earlier source survives."""
    clean: CleanSpec = CleanSpec()
    rules: RulesSpec = RulesSpec()
    exact_dedup: ExactDedupSpec = ExactDedupSpec()
    near_dedup: NearDedupSpec = NearDedupSpec()
    decontaminate: DecontaminateSpec = DecontaminateSpec()
    caps: CapsSpec = CapsSpec()
    guard: GuardSpec = GuardSpec()
    tokenizer: TokenizerSpec = TokenizerSpec()
    samples: SampleSpec = SampleSpec()
    shards: ShardSpec = ShardSpec()

    @model_validator(mode="after")
    def _check(self) -> "Mix":
        twice = [name for name, count in Counter(source.name for source in self.sources).items() if count > 1]
        if twice:
            raise ValueError(f"two sources are named {twice[0]!r}; a source's name is part of its rows' identity")
        if all(source.role == "eval" for source in self.sources):
            raise ValueError("every source has role: eval; expected at least one to train on")
        names = [source.name for source in self.sources]
        for name in self.guard.allow_empty:
            if name not in names:
                raise ValueError(f"guard.allow_empty: there is no source {name!r}{closest(name, names)}")
        drops = {outcome.value for outcome in Outcome} - {Outcome.KEPT.value} | self.rules.outcomes
        drops |= {FileOutcome.TRUNCATED.value, FileOutcome.UNREADABLE.value}
        guards = {f"sources.{number}.guard": source.guard for number, source in enumerate(self.sources)}
        for place, shares in {**guards, "guard.rules": self.guard.rules}.items():
            for name in shares.keys() - drops:
                raise ValueError(f"{place}: {name!r} is not a reason to drop a row{closest(name, sorted(drops))}")
        if self.draw_margin is not None and self.epochs is None:
            raise ValueError(
                "draw_margin is set, but not epochs: what is drawn depends on both; set epochs, or neither"
            )
        if self.samples.min_response_tokens >= self.samples.max_tokens:
            raise ValueError("samples.min_response_tokens must be smaller than samples.max_tokens")
        return self


def load(path: str | Path, overrides: Sequence[str] = ()) -> Mix:
    """Read a mix manifest.

    Parameters
    ----------
    path
        The YAML file.
    overrides
        `key=value` strings; see `corpus.config.load_manifest`.

    Raises
    ------
    corpus.config.ConfigError
        The manifest cannot be used; the message names the place.
    """
    return _with_sets(_at_root(load_manifest(path, Mix, overrides)), Path(path).parent)


def _with_sets(mix: Mix, base: Path) -> Mix:
    """Return the mix with the files of named evaluation sets as paths of their sources."""

    def resolved(spec: SourceSpec) -> SourceSpec:
        if spec.set is None:
            return spec
        folder = spec.path if isinstance(spec.path, str) else None
        if folder is not None and not is_url(folder):
            folder = str(base / local_path(folder))
        try:
            keys = source_keys(spec.set, folder)
        except (OSError, ValueError) as error:
            raise ConfigError(f"sources.{spec.name}: {redact(str(error))}") from None
        stated = spec.model_dump(exclude_defaults=True)
        if spec.states_pairs or spec.adapter is not None:
            keys.pop("map", None)
        return SourceSpec.model_validate(keys | stated | {"path": keys["path"], "set": None})

    return mix.model_copy(update={"sources": [resolved(spec) for spec in mix.sources]})


def _at_root(mix: Mix) -> Mix:
    """Return the mix with its `root` put into the paths of its sources."""
    root = mix.root
    if root is None:
        return mix

    def at(path: str) -> str:
        return path if "://" in path or path.startswith("/") else f"{root.rstrip('/')}/{path}"

    def moved(spec: SourceSpec) -> SourceSpec:
        path = [at(entry) for entry in spec.path] if isinstance(spec.path, list) else spec.path and at(spec.path)
        return spec.model_copy(update={"path": path})

    return mix.model_copy(update={"root": None, "sources": [moved(spec) for spec in mix.sources]})
