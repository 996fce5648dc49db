"""A file of answers that appears when it is complete, and whose writing continues after a kill.

    batches of prompts ─ answer ─▶ OUT.partial: settings, then a JSON object a line ─ all written ─▶ OUT

Batches are the same groups of prompts in every run, so a continued run gives the bytes of an uninterrupted one.
"""

import fcntl
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from corpus.config import ConfigError

Answer = Callable[[int, int], Sequence[Mapping[str, Any]]]
"""From the bounds [begin, end) of a batch to the rows to write."""


def write_answers(
    out: Path,
    *,
    settings: Mapping[str, Any],
    count: int,
    batch: int,
    answer: Answer,
    report: Callable[[int], None] = lambda done: None,
) -> int:
    """Write the answers to all prompts, continuing where an earlier run with the same settings ended.

    Parameters
    ----------
    out
        The file to write; it must not exist.
    settings
        All that the answers depend on.
    count, batch
        Number of prompts, and of those that are answered together.
    answer
        Called for each batch that was not written yet.
    report
        Called between batches with the number of answers that are written.

    Returns
    -------
    int
        Number of answers that an earlier run had written.

    Raises
    ------
    ConfigError
        The partial file was written with other settings, or another process is writing it.
    """
    partial = out.with_name(f"{out.name}.partial")
    header = json.dumps({"settings": dict(settings)}, sort_keys=True) + "\n"
    with partial.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"{partial}: another process is writing it: wait for it, or set another --out") from None
        done = _continue(file, partial, header, batch)
        for begin in range(done, count, batch):
            report(begin)
            rows = answer(begin, min(count, begin + batch))
            file.writelines(map(_line, rows))
            file.flush()
        os.fsync(file.fileno())
        _publish(partial, out, len(header.encode()))
    return done


def _line(row: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can write
        return json.dumps(row).encode() + b"\n"


def _continue(file: IO[bytes], partial: Path, header: str, batch: int) -> int:
    """Cut a partial file after its last complete batch and return the number of its answers."""
    file.seek(0)
    first = file.readline()
    if not first.endswith(b"\n"):
        file.truncate(0)
        file.write(header.encode())
        file.flush()
        return 0
    if first != header.encode():
        found, wanted = json.loads(first)["settings"], json.loads(header)["settings"]
        keys = [key for key in wanted if wanted[key] != found.get(key)]
        differing = "; ".join(f"{key} was {found.get(key)} and is {wanted[key]}" for key in keys)
        raise ConfigError(f"{partial}: was written with other settings: {differing}; delete it, or set another --out")
    done, end, lines = 0, file.tell(), 0
    while file.readline().endswith(b"\n"):
        lines += 1
        if lines % batch == 0:
            done, end = lines, file.tell()
    file.truncate(end)
    file.seek(0, os.SEEK_END)
    return done


def _publish(partial: Path, out: Path, skip: int) -> None:
    """Give the rows of the partial file, without its first `skip` bytes, their name at once."""
    complete = out.with_name(f".{out.name}.complete")
    with partial.open("rb") as source, complete.open("wb") as target:
        source.seek(skip)
        while chunk := source.read(1 << 22):
            target.write(chunk)
        os.fsync(target.fileno())
    os.replace(complete, out)
    partial.unlink()
