"""The tokenizer: trained on a sample of the mix or given, and fast encoding of many texts.

A trained one is byte-level BPE over NFC text, split as in Qwen2 (single digits), with the template's special tokens as
the first ids. Texts are encoded by a copy without special tokens, so that `<|im_end|>` inside a text stays text.
`Encoder` gives the same ids with either engine: gigatoken, or `tokenizers`, the much slower reference for gigatoken.
"""

import functools
import importlib.util
import json
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import tokenizers
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from corpus.config import ConfigError
from corpus.contract import MAX_VOCABULARY, SPECIAL_TOKENS, TokenDtype, token_dtype, without_special_tokens
from pipeline.engine.counters import count
from pipeline.engine.step import BuildError, NoResult, Step
from pipeline.shards.mds import Tokens
from pipeline.shards.shuffle import Scatter

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Split pattern of Qwen2; no token crosses its boundaries, so none spells a special token."""

REFERENCE = "tokenizers"
FAST = "gigatoken"

SHOWN_TOKENS = 12
"""Special tokens of a file that a message names."""


def engine() -> str:
    """Return the fastest engine that is installed."""
    return FAST if importlib.util.find_spec("gigatoken") is not None else REFERENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerStep(Step[NoResult]):
    """Write a `tokenizer.json`."""

    stage: ClassVar[str] = "tokenizer"

    FILE: ClassVar[str] = "tokenizer.json"

    @classmethod
    def text(cls, work: Path, key: str) -> str:
        """Return the `tokenizer.json` of a finished step."""
        return (cls.folder(work, key) / cls.FILE).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainTokenizer(TokenizerStep):
    """Train on the sample that `Scatter` drew."""

    inputs: tuple[str, ...]
    """Keys of all `Scatter`s."""
    vocab_size: int

    @property
    def partition(self) -> str:
        return f"vocabulary of {self.vocab_size:,}"

    def run(self, work: Path, out: Path) -> NoResult:
        sample = Scatter.sample(work, self.inputs)
        if sample.num_rows == 0:
            raise BuildError("the sample has no pair to train a tokenizer on: set a larger tokenizer.sample_bytes")
        tokenizer = train(_texts(sample), self.vocab_size)
        (out / self.FILE).write_text(tokenizer.to_str(pretty=False), encoding="utf-8")
        count(rows=sample.num_rows, bytes=sample.nbytes)
        return NoResult()


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenTokenizer(TokenizerStep):
    """Use a given tokenizer unchanged."""

    json_text: str
    """A `tokenizer.json` that `load_given` has checked."""

    @property
    def partition(self) -> str:
        return "the given file"

    def run(self, work: Path, out: Path) -> NoResult:
        (out / self.FILE).write_text(self.json_text, encoding="utf-8")
        return NoResult()


def train(texts: Iterator[str], vocab_size: int) -> Tokenizer:
    """Train byte-level BPE; the same texts in the same order give the same tokenizer, on any number of threads."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _texts(sample: pa.Table) -> Iterator[str]:
    for batch in sample.to_batches(max_chunksize=1024):
        yield from batch.column("instruction").to_pylist()
        yield from batch.column("response").to_pylist()


def load_given(path: Path) -> str:
    """Return the text of a user's `tokenizer.json`, after checking that a dataset can use it.

    Parameters
    ----------
    path
        The file, or a folder that contains it: a model in the Hugging Face format, or a checkpoint.

    Raises
    ------
    corpus.config.ConfigError
        The file is not a tokenizer, lacks a special token, or does not encode every byte.
    """
    if path.is_dir():
        path = path / TokenizerStep.FILE
    try:
        text = path.read_text(encoding="utf-8")
        tokenizer = Tokenizer.from_str(text)
    except FileNotFoundError:
        raise ConfigError(
            f"tokenizer.file: {path} is missing: put the tokenizer.json of the model there, or name another place by "
            f"tokenizer.file=PATH (a file, or the folder of a model); null trains a tokenizer on the mix"
        ) from None
    except OSError as error:
        raise ConfigError(f"tokenizer.file: {path}: {error.strerror}") from None
    except BaseException as error:  # the library raises bare Exception, and panics are no Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        raise ConfigError(f"tokenizer.file: {path}: not a tokenizer.json ({error})") from None
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    missing = [token for token in SPECIAL_TOKENS if token not in added]
    if missing:
        tokens = "special token" if len(missing) == 1 else "special tokens"
        raise ConfigError(
            f"tokenizer.file: {path}: lacks the {tokens} {', '.join(missing)}; {_added_tokens(added)}. All of "
            f"{', '.join(SPECIAL_TOKENS)} are needed: rename unused ones of the file, or add what is missing by "
            "Tokenizer.from_file(…).add_special_tokens([…]) of the library tokenizers, and save the file"
        )
    listed = [token["content"] for token in json.loads(text)["added_tokens"]]
    ids = tokenizer.get_vocab(with_added_tokens=True).values()
    if len(set(ids)) < len(ids) or len(set(listed)) < len(listed) or max(ids) >= MAX_VOCABULARY:
        raise ConfigError(
            f"tokenizer.file: {path}: has {len(ids):,} tokens with {len(set(ids)):,} ids up to {max(ids):,}, and "
            f"{len(listed) - len(set(listed)):,} added tokens twice; expected an id below {MAX_VOCABULARY:,} for each"
        )
    every_byte = "".join(map(chr, range(256))) + "\u4e2d\U0001f600\U0010ffff"
    try:
        plain = Tokenizer.from_str(without_special_tokens(text))
        encoded = plain.encode(every_byte, add_special_tokens=False).ids
        found = plain.decode(encoded, skip_special_tokens=False)
    except Exception as error:  # the library raises no other
        raise ConfigError(f"tokenizer.file: {path}: cannot encode every text ({error})") from None
    if found != every_byte:
        raise ConfigError(
            f"tokenizer.file: {path}: does not decode every text to what was encoded; expected byte-level BPE"
        )
    return text


def _added_tokens(added: Collection[str]) -> str:
    """Return a phrase that names the first special tokens of a file."""
    if not added:
        return "it has no special tokens"
    names = ", ".join(sorted(added)[:SHOWN_TOKENS])
    return f"its own are {names}" + (f" and {len(added) - SHOWN_TOKENS:,} more" if len(added) > SHOWN_TOKENS else "")


def vocabulary_size(tokenizer_json: str) -> int:
    """Return the largest id + 1."""
    return 1 + max(_parsed(tokenizer_json).get_vocab(with_added_tokens=True).values())


def special_ids(tokenizer_json: str) -> dict[str, int]:
    """Return the id of each of the template's special tokens."""
    return {token: _parsed(tokenizer_json).token_to_id(token) for token in SPECIAL_TOKENS}


@functools.lru_cache(maxsize=1)
def _parsed(tokenizer_json: str) -> Tokenizer:
    return Tokenizer.from_str(tokenizer_json)


@functools.lru_cache(maxsize=1)
def load_encoder(tokenizer_json: str, engine: str) -> "Encoder":
    """Return an `Encoder`; the last one is cached, since loading takes longer than encoding a small bucket."""
    return Encoder(tokenizer_json, engine)


class Encoder:
    """Encodes texts; nothing in them becomes a special token.

    Parameters
    ----------
    tokenizer_json
        Text of `tokenizer.json`.
    engine
        `FAST` or `REFERENCE`.
    """

    def __init__(self, tokenizer_json: str, engine: str) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        plain = without_special_tokens(tokenizer_json)
        self.reference = Tokenizer.from_str(plain)
        self._fast: Any = None
        if engine == FAST:
            import gigatoken

            self._fast = gigatoken.Tokenizer.from_json(plain)
        added = {token["content"]: token["id"] for token in json.loads(tokenizer_json)["added_tokens"]}
        self.special = {token: added[token] for token in SPECIAL_TOKENS}
        """Id of each of the template's special tokens."""
        vocab_size = 1 + max(*self.reference.get_vocab().values(), *added.values())
        self.dtype: TokenDtype = token_dtype(vocab_size)
        """Type of the ids that `encode` returns."""
        self._forbidden = np.zeros(vocab_size, bool)
        self._forbidden[list(added.values())] = True
        self._bounds = min(added.values()), max(added.values())

    def encode(self, texts: Sequence[str]) -> tuple[Tokens, NDArray[np.int64]]:
        """Return the ids of all texts, concatenated, and the bounds (n + 1,) of each.

        Raises
        ------
        BuildError
            A text was encoded with the id of a special token.
        """
        ids, bounds = self._encode_fast(texts) if self._fast is not None else self._encode_reference(texts)
        # Added tokens usually have the first ids or the last ones, so that a comparison leaves few ids to look up.
        hits = np.flatnonzero((ids >= self._bounds[0]) & (ids <= self._bounds[1]))
        hits = hits[self._forbidden[ids[hits]]]
        if len(hits):
            text = texts[int(np.searchsorted(bounds, hits[0], side="right")) - 1]
            raise BuildError(
                f"the tokenizer encodes plain text as the special token {ids[hits[0]]}, in {text[:80]!r}; "
                "use one whose split pattern keeps special tokens apart from text"
            )
        return ids.astype(self.dtype), bounds

    def _encode_fast(self, texts: Sequence[str]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        encoded = self._fast.encode_batch(list(texts), parallel=False).layout
        bounds = np.asarray(encoded.offsets.data, np.int64)
        return np.asarray(encoded.content.data)[bounds[0] : bounds[-1]], bounds - bounds[0]

    def _encode_reference(self, texts: Sequence[str]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        encoded = [self.reference.encode(text, add_special_tokens=False).ids for text in texts]
        bounds = np.concatenate([[0], np.cumsum([len(ids) for ids in encoded])]).astype(np.int64)
        flat = np.fromiter((id_ for ids in encoded for id_ in ids), np.int64, int(bounds[-1]))
        return flat, bounds

    def mismatch(self, texts: Sequence[str], ids: Tokens, bounds: NDArray[np.int64]) -> str | None:
        """Return a sentence about the first text whose ids differ from the reference's; None if all agree."""
        expected = self.reference.encode_batch_fast(list(texts), add_special_tokens=False)
        for row, encoding in enumerate(expected):
            if ids[bounds[row] : bounds[row + 1]].tolist() != encoding.ids:
                return f"{FAST} and {REFERENCE} {tokenizers.__version__} encode {texts[row][:80]!r} differently"
        return None
