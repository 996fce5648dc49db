"""Small datasets as the trainer's contract describes them, written with streaming's own MDS writer.

All tokens of sample i have the value `FIRST + i`, so which samples a batch holds
is a set comparison.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from streaming import MDSWriter
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from corpus.contract import (
    COMMIT,
    LENGTHS,
    PAD,
    SPECIAL_TOKENS,
    TOKENIZER,
    DatasetInfo,
    EvalInfo,
    FileInfo,
    TokenizerInfo,
)

FIRST = 16
"""Token of sample 0; the ids below are special."""


def stratum(
    begin: int, end: int, *, task: str = "", max_per_epoch: int | None = None, repeat: int = 1
) -> dict[str, Any]:
    """One entry of strata.json."""
    return {
        "source": "fixture",
        "task": task or f"{begin}",
        "begin": begin,
        "end": end,
        "max_per_epoch": max_per_epoch,
        "repeat": repeat,
    }


def write_dataset(
    folder: Path,
    *,
    samples: int = 120,
    strata: Sequence[dict[str, Any]] | None = None,
    longest: int = 24,
    seed: int = 0,
    shard_bytes: int = 2048,
    responses: bool = True,
    questions: int = 4,
) -> Path:
    """Write a dataset and return its folder; without `responses`, they are all empty."""
    rng = np.random.default_rng(seed)
    total = rng.integers(3, longest + 1, samples)
    prefix = rng.integers(1, total - 1) if responses else total
    lengths = np.stack([prefix, total - prefix], axis=1).astype(np.uint16)
    columns = {"tokens": "ndarray:uint16", "prefix_len": "uint16", "row_id": "bytes"}
    with MDSWriter(
        out=str(folder / "shards"), columns=columns, hashes=["xxh64"], size_limit=shard_bytes, progress_bar=False
    ) as writer:
        for i in range(samples):
            writer.write(
                {
                    "tokens": np.full(total[i], FIRST + i, np.uint16),
                    "prefix_len": np.uint16(prefix[i]),
                    "row_id": i.to_bytes(16, "big"),
                }
            )
    np.save(folder / "lengths.npy", lengths)
    entries = list(strata) if strata is not None else [stratum(0, samples // 3), stratum(samples // 3, samples)]
    (folder / "strata.json").write_text(json.dumps({"strata": entries}))
    write_tokenizer(folder, FIRST + samples)
    (folder / "eval").mkdir()
    held_out = [
        {"row_id": f"{i:032x}", "source": "heldout", "task": f"family{i % 2}", "condition": ["direct"]}
        | {"instruction": f"w{20 + i % 60}", "response": f"w{30 + i % 60}"}
        for i in range(questions)
    ]
    (folder / "eval" / "heldout.jsonl").write_text("".join(json.dumps(question) + "\n" for question in held_out))
    seal(folder, samples=samples, tokens=int(total.sum()), vocab_size=FIRST + samples)
    return folder


def write_tokenizer(folder: Path, size: int) -> None:
    """Write a tokenizer of `size` words: the special tokens and made-up ones, each with its number."""
    vocabulary = {tag: i for i, tag in enumerate(SPECIAL_TOKENS)}
    vocabulary |= {f"w{i}": i for i in range(len(SPECIAL_TOKENS), size)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=PAD))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    (folder / "tokenizer").mkdir()
    tokenizer.save(str(folder / TOKENIZER))


def seal(folder: Path, *, samples: int, tokens: int, vocab_size: int) -> None:
    """Write the dataset.json of the files in the folder."""
    files = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != COMMIT
    }
    lengths = np.load(folder / LENGTHS)
    prefix, response = lengths.sum(axis=0, dtype=np.int64).tolist()
    info = DatasetInfo(
        name="fixture",
        fingerprint=hashlib.sha256(json.dumps(files).encode()).hexdigest(),
        samples=samples,
        tokens=tokens,
        prefix_tokens=prefix,
        response_tokens=response,
        max_tokens=int(lengths.sum(axis=1).max()),
        tokenizer=TokenizerInfo(
            file=TOKENIZER,
            sha256=files[TOKENIZER]["sha256"],
            vocab_size=vocab_size,
            special={tag: i for i, tag in enumerate(SPECIAL_TOKENS)},
        ),
        shards=len(list((folder / "shards").glob("*.mds"))),
        counts={},
        eval=EvalInfo(files=("eval/heldout.jsonl",), rows=4),
        files={path: FileInfo(**facts) for path, facts in files.items()},
        lock_sha256="0" * 64,
        build_key="",
        versions={},
    )
    (folder / COMMIT).write_text(info.model_dump_json())


def write_manifest(folder: Path, data: Path | str, **changes: Any) -> Path:
    """Write a manifest for a model that is trained in seconds; evaluation is off."""
    manifest: dict[str, Any] = {
        "data": str(data),
        "out": str(folder / "run"),
        "model": {"size": "tiny", "num_layers": 2, "hidden_size": 32, "num_heads": 2, "head_dim": 16},
        "batch": {"tokens": 128, "row_tokens": 32},
        "optimizer": {"lr": 1e-3, "ema": 0.9},
        "schedule": {"warmup_steps": 4},
        "checkpoint": {"every": 5},
        "eval": {"rows_per_family": 0},
        "epochs": 2,
        "device": "cpu",
        "threads": 1,
        **changes,
    }
    path = folder / "train.yaml"
    path.write_text(json.dumps(manifest))
    return path
