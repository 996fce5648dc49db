"""A small mix with a bit of everything, and datasets built from it by real builds."""

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from corpus.contract import SPECIAL_TOKENS
from pipeline.build import build

REPOSITORY = Path(__file__).parents[2]

WORDS = ["river", "stone", "seven", "lamp", "quietly", "ångström", "東京", "naïve", "wheel", "42", "3.5", "\N{ROCKET}"]


def texts(seed: int, count: int) -> Iterator[tuple[str, str]]:
    """Pairs of made-up texts; no two instructions are equal."""
    draw = random.Random(seed)
    for number in range(count):
        yield (
            f"Question {seed}-{number}: " + " ".join(draw.choices(WORDS, k=draw.randint(3, 30))),
            " ".join(draw.choices(WORDS, k=draw.randint(2, 60))),
        )


def write_jsonl(path: Path, rows: list[Any]) -> None:
    """Write one JSON value per line; a `str` is written unchanged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def write_mix(folder: Path, *, rows: int = 300, **changes: Any) -> Path:
    """A mix of three train sources and an eval source under `folder`; returns the manifest's path."""
    first = [{"instruction": a, "response": b} for a, b in texts(1, rows)]
    dirt: list[Any] = [
        {"instruction": "  ", "response": "nothing was asked"},
        {"instruction": "Say nothing.", "response": ""},
        {"instruction": "Think!", "response": "<think>so it\n is</think> It is."},
        {"instruction": "Think on!", "response": "<think>so it is"},
        {"instruction": "Repeat after me.", "response": "again and again " * 80},
        {"instruction": "Too long", "response": " ".join(f"word{n}" for n in range(3000))},
        {"instruction": "One token", "response": "Cafe\u0301\r\nau lait\x00"},
        '{"instruction": "broken", ',
        {"question": "no answer here"},
        *({"instruction": f"What is {token}?", "response": f"{token} is text {token}"} for token in SPECIAL_TOKENS),
    ]
    again = [{"instruction": a.replace(" ", "  "), "response": b + " "} for a, b in list(texts(1, rows))[::7]]
    write_jsonl(folder / "first/a.jsonl", first + dirt)
    write_jsonl(folder / "first/b.jsonl", [{"instruction": a, "response": b} for a, b in texts(2, rows // 3)])
    write_jsonl(folder / "second/rows.jsonl", again + [{"prompt": a, "completion": b} for a, b in texts(3, rows)])
    chats = [
        {"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]}
        for a, b in texts(4, rows // 4)
    ]
    write_jsonl(folder / "chat.jsonl", chats)
    write_jsonl(folder / "held.jsonl", [{"question": a, "answer": b} for a, b in texts(5, 20)] * 2)
    (folder / "second/LICENSE").write_text("Permission is hereby granted, free of charge, to any person.\n" * 3)
    manifest = {
        "name": "small",
        "sources": [
            {"name": "first", "path": "first", "condition": ["direct"]},
            {"name": "second", "path": "second", "task": "source", "max_per_epoch": 50, "repeat": 2},
            {"name": "chat", "path": "chat.jsonl", "condition": ["synth", "cot"]},
            {"name": "held", "path": "held.jsonl", "role": "eval"},
        ],
        "tokenizer": {"vocab_size": 600, "sample_bytes": "100kB"},
        "samples": {"max_tokens": 512},
        "shards": {"size": "16KiB"},
        **changes,
    }
    (folder / "mix.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False), encoding="utf-8")
    return folder / "mix.yaml"


def run_build(manifest: Path, out: Path | str, *, workers: int = 1, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """Build from this process (workers are others); returns the content of dataset.json."""
    return build(manifest, overrides=overrides, out=out, workers=workers).dataset.model_dump(mode="json")


def command(manifest: Path, out: Path, *more: str) -> list[str]:
    """The command line of a build."""
    return [sys.executable, "-m", "pipeline.build", str(manifest), "--out", str(out), *more]


def start(manifest: Path, out: Path, *more: str) -> "subprocess.Popen[str]":
    """Start a build in a new process group; its output and errors are one stream."""
    return subprocess.Popen(
        command(manifest, out, *more),
        cwd=REPOSITORY,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def contents(out: Path) -> dict[str, bytes]:
    """Every file of a dataset, intermediate results aside."""
    paths = [path for path in sorted(out.rglob("*")) if path.is_file()]
    names = {path.relative_to(out).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(".")}


@pytest.fixture(scope="session")
def mix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of the small mix."""
    return write_mix(tmp_path_factory.mktemp("mix"))


@pytest.fixture(scope="session")
def dataset(mix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small mix, built. Do not change it."""
    out = tmp_path_factory.mktemp("out") / "small"
    run_build(mix, out, workers=2)
    return out
