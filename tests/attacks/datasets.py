"""Attacks on the small files of a dataset. The hashes in dataset.json are those of the damaged files."""

import hashlib
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from corpus.contract import COMMIT, LENGTHS, SHARD_INDEX, STRATA, TOKENIZER
from tests.attacks.attack import UNKNOWN_TAG, Attack, nested, put
from tests.trainer.fixtures import write_dataset
from trainer.data.dataset import open_dataset
from trainer.data.draw import PlanError
from trainer.data.fetch import DatasetError
from trainer.data.plan import Plan, PlanInputs, fit_lengths
from trainer.data.shards import ShardStore
from trainer.evaluate import read_questions

EVAL = "eval/heldout.jsonl"


class Dataset:
    """A dataset of 120 samples, read as a run does."""

    errors = (DatasetError, PlanError)

    def __init__(self, folder: Path) -> None:
        self.sound = write_dataset(folder / "sound")
        self._cache = folder / "cache"

    def read(self, folder: Path) -> object:
        """All samples, the batches of an epoch, the tokenizer and the held-out questions."""
        dataset = open_dataset(str(folder), self._cache)
        store = ShardStore(dataset)
        samples = [store.read(number).tokens.tolist() for number in range(dataset.samples)]
        lengths = fit_lengths(dataset.lengths, row_tokens=32, truncate=False)
        inputs = PlanInputs(fingerprint="", seed=0, batch_tokens=128, row_tokens=32, truncate=False)
        chunk = Plan(inputs, dataset.strata, lengths).chunk(0, 0)
        tokenizer = dataset.tokenizer()
        questions = read_questions(dataset, tokenizer, rows_per_family=9)
        facts = (dataset.vocab_size, dataset.samples, dataset.tokens)
        return samples, chunk.hash, dict(dataset.special), tokenizer.encode("w20 w21").ids, questions, facts


def sealed(folder: Path, name: str) -> None:
    """Record a file's present size and hash in dataset.json."""
    content = (folder / name).read_bytes()
    commit = json.loads((folder / COMMIT).read_text())
    commit["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / COMMIT).write_text(json.dumps(commit))


def _on(name: str, damage: Callable[[Path], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        damage(folder / name)
        if name != COMMIT:
            sealed(folder, name)

    return apply


def _attack(kind: str, name: str, what: str, damage: Callable[[Path], None]) -> Attack:
    return Attack(kind=kind, name=f"{name}: {what}", damage=_on(name, damage))


def _value(name: str, at: str, new: Any) -> Attack:
    shown = "a function" if callable(new) else json.dumps(new)
    return _attack("value", name, f"{at} = {shown[:40]}", lambda path: put(path, at, new))


def _header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<u2", "fortran_order": False, "shape": shape})
    return file.getvalue()


def _zipped(path: Path) -> None:
    content = np.load(path)
    with path.open("wb") as file:
        np.savez_compressed(file, lengths=content)


def _zip_of_junk(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", b"y")
    path.write_bytes(path.read_bytes()[:20])


def _npy_attacks() -> Iterator[Attack]:
    damages: dict[str, Callable[[Path], Any]] = {
        "truncated": lambda path: path.write_bytes(path.read_bytes()[:-7]),
        "header only": lambda path: path.write_bytes(path.read_bytes()[:128]),
        "half a header": lambda path: path.write_bytes(path.read_bytes()[:40]),
        "empty": lambda path: path.write_bytes(b""),
        "pickled": lambda path: np.save(path, np.array([{}] * 240, object).reshape(120, 2), allow_pickle=True),
        "a pickle": lambda path: path.write_bytes(pickle.dumps([1, 2])),
        "zipped": _zipped,
        "half a zip": _zip_of_junk,
        "10^12 rows": lambda path: path.write_bytes(_header((10**12, 2)) + b"\0" * 480),
        "10^30 rows": lambda path: path.write_bytes(_header((10**30, 2)) + b"\0" * 480),
        "-1 rows": lambda path: path.write_bytes(_header((-1, 2)) + b"\0" * 480),
        "header of brackets": lambda path: path.write_bytes(
            b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000
        ),
        "header of 4 GB": lambda path: path.write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b"{}"),
        "version 9": lambda path: path.write_bytes(path.read_bytes()[:6] + b"\x09\x00" + path.read_bytes()[8:]),
        "of float": lambda path: np.save(path, np.load(path).astype(float)),
        "big-endian": lambda path: np.save(path, np.load(path).astype(">u2")),
        "columns first": lambda path: np.save(path, np.asfortranarray(np.load(path))),
        "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0" * 4),
        "all zero": lambda path: np.save(path, np.zeros((120, 2), np.uint16)),
        "all 65535": lambda path: np.save(path, np.full((120, 2), 65535, np.uint16)),
    }
    for what, damage in damages.items():
        yield _attack("array", LENGTHS, what, damage)


def attacks() -> list[Attack]:
    """All attacks."""
    found: list[Attack] = []
    for name in (COMMIT, STRATA, SHARD_INDEX, TOKENIZER):
        found += [
            _attack("document", name, json.dumps(other), partial(Path.write_text, data=json.dumps(other)))
            for other in ([], "x", 3, None, {})
        ]
        found.append(_attack("document", name, "nested", nested))
    for number in (-1, 1.5, "5", None, True, 10**30):
        found += [
            _value(COMMIT, "samples", number),
            _value(COMMIT, "tokens", number),
            _value(STRATA, "strata.0.end", number),
            _value(STRATA, "strata.0.repeat", number),
            _value(SHARD_INDEX, "shards.0.samples", number),
            _value(SHARD_INDEX, "shards.0.raw_data.bytes", number),
        ]
    found += [
        _value(SHARD_INDEX, "shards.0.raw_data.hashes", ["xxh64"]),
        _value(SHARD_INDEX, "shards.0.column_sizes", [-1, -1, -1]),
        _value(SHARD_INDEX, "shards.0.column_sizes", [2, 10**12, None]),
        *_npy_attacks(),
        _value(STRATA, "strata.0.max_per_epoch", -1),
        _value(STRATA, "strata.0.max_per_epoch", 1.5),
        _value(STRATA, "strata.0.repeat", 10**9),
        _value(STRATA, "strata.0.repeat", 0),
        _value(STRATA, "strata.0.task", None),
        _value(STRATA, "strata.0.task", ["a"]),
        _attack("document", TOKENIZER, "garbage", lambda path: path.write_bytes(b"\x80\x02garbage")),
        _value(TOKENIZER, "model", {"type": "BPE"}),
        _value(TOKENIZER, "added_tokens", []),
        _value(TOKENIZER, "post_processor", UNKNOWN_TAG),
        _value(TOKENIZER, "added_tokens.0.id", 4 * 10**9),
        _value(COMMIT, "tokenizer.special.<|im_end|>", -1),
        _value(COMMIT, "tokenizer.special.<|im_end|>", 1),
        _value(COMMIT, "tokenizer.special.<|im_end|>", 4 * 10**9),
        _value(COMMIT, "tokenizer.special", lambda tags: {tag: i for tag, i in tags.items() if tag != "<|im_end|>"}),
        _value(COMMIT, "tokenizer.vocab_size", 4 * 10**9),
        Attack(
            kind="value",
            name="dataset.json: a vocabulary of 4·10⁹ with uint32",
            damage=lambda folder: put(
                folder / COMMIT,
                "tokenizer",
                lambda t: {**t, "vocab_size": 4 * 10**9, "token_dtype": "uint32"},
            ),
        ),
        *_eval_attacks(),
    ]
    return found


def _eval_attacks() -> Iterator[Attack]:
    def line(**changes: Any) -> Callable[[Path], None]:
        def damage(path: Path) -> None:
            first, *rest = path.read_text().splitlines(keepends=True)
            path.write_text(json.dumps({**json.loads(first), **changes}) + "\n" + "".join(rest))

        return damage

    for field, wrong in {
        "source": (None, 5, [], "", {}),
        "task": (None, 5, ["a"], {}),
        "instruction": (None, 5, [], ""),
        "response": (5, [], {}, ""),
        "condition": (None, "direct", [5], ["cott"], {"direct": 1}, [["direct"]]),
        "color": ("red",),
    }.items():
        for value in wrong:
            yield _attack("eval", EVAL, f"{field} = {json.dumps(value)}", line(**{field: value}))
    yield _attack("eval", EVAL, "nested", lambda path: path.write_text('{"a":' * 100_000))
    yield _attack("eval", EVAL, "not UTF-8", lambda path: path.write_bytes(b"\xff\xfe\n"))
    yield _attack("eval", EVAL, "a list", lambda path: path.write_text("[1]\n"))
    yield _attack("eval", EVAL, "cut", lambda path: path.write_bytes(path.read_bytes()[:-20]))
    yield _attack("eval", EVAL, "a line of 70 MB", lambda path: path.write_bytes(b'{"a": "' + b"x" * 70_000_000))
