"""Explain a row: where it came from, what became of it, and why.

    python -m pipeline.explain out/mix 3fa9c1
    python -m pipeline.explain out/mix --near 20    # the near duplicates to look at first

Reads only the dataset: the ledger, and the curated texts of what was kept.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

from rich.markup import escape
from rich.text import Text

from corpus.contract import COMMIT, FORMAT
from corpus.outcome import Outcome
from corpus.storage.retry import INTERACTIVE_ATTEMPTS
from corpus.storage.store import Store
from pipeline.report.page import NEAR_DUPLICATES
from pipeline.report.summary import console

SHOWN_MATCHES = 10
SHOWN_WORDS = 12
"""Words shown on either side of a difference."""


class UnknownRowError(Exception):
    """No row has this id, or several do."""


def find(store: Store, commit: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The ledger line of the row whose id begins with `prefix`.

    Raises
    ------
    UnknownRowError
        None or several do; the message names them.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if not re.fullmatch(r"[0-9a-f]{1,32}", prefix):
        raise UnknownRowError(f"{prefix!r} is no row id: expected up to 32 of the digits 0-9 a-f")
    matches: list[dict[str, Any]] = []
    for path in sorted(path for path in commit["files"] if path.startswith("ledger/rows-")):
        with store.open(path) as file, pq.ParquetFile(file) as parquet:
            for group in range(parquet.num_row_groups):
                hits = pc.starts_with(
                    parquet.read_row_group(group, columns=["row_id"], use_threads=False).column("row_id"), prefix
                )
                if pc.any(hits).as_py():
                    matches += parquet.read_row_group(group, use_threads=False).filter(hits).to_pylist()
    if not matches:
        raise UnknownRowError(f"no row id begins with {prefix}; `python -m corpus.inspect` finds rows by text")
    if len(matches) > 1:
        shown = "".join(f"\n  {line['row_id']}  {line['source']} {line['file']}" for line in matches[:SHOWN_MATCHES])
        raise UnknownRowError(f"{len(matches):,} row ids begin with {prefix}; give more digits:{shown}")
    return matches[0]


def text_of(store: Store, commit: dict[str, Any], line: dict[str, Any]) -> dict[str, Any] | None:
    """The curated record of a kept row, None for one that was dropped."""
    import pyarrow.parquet as pq

    if line["outcome"] != Outcome.KEPT:
        return None
    if line["sample"] is None:
        with store.open(f"eval/{line['source']}.jsonl") as file:
            records = (json.loads(text) for text in file)
            return next((record for record in records if record["row_id"] == line["row_id"]), None)
    first = 0
    for path in sorted(path for path in commit["files"] if path.startswith("curated/")):
        with store.open(path) as file, pq.ParquetFile(file) as parquet:
            for group in range(parquet.num_row_groups):
                rows = parquet.metadata.row_group(group).num_rows
                if first <= line["sample"] < first + rows:
                    table = parquet.read_row_group(group, use_threads=False).slice(line["sample"] - first, 1)
                    record: dict[str, Any] = table.to_pylist()[0]
                    return record
                first += rows
    return None


def _show(store: Store, commit: dict[str, Any], line: dict[str, Any]) -> None:
    screen = console()

    def say(label: str, value: Any) -> None:
        if value is not None and value != [] and value != "":
            screen.print(f"{label:<12} {escape(str(value))}", soft_wrap=True)

    say("row id", line["row_id"])
    say("source", f"{line['source']} ({commit['counts'][line['source']]['role']})")
    say("file", line["file"])
    say("row", f"{line['row']:,} (part {line['part']})")
    say("outcome", line["outcome"])
    say("stage", line["stage"])
    say("score", line["score"])
    say("detail", line["detail"])
    say("sample", None if line["sample"] is None else f"{line['sample']:,}")
    record = text_of(store, commit, line)
    if record is not None:
        _show_text(record, say)
    if line["twin"] is not None:
        twin = find(store, commit, line["twin"])
        screen.print("")
        say("lost to", twin["row_id"])
        say("source", twin["source"])
        say("file", twin["file"])
        say("row", f"{twin['row']:,} (part {twin['part']})")
        say("outcome", twin["outcome"])
        say("detail", twin["detail"])
        record = text_of(store, commit, twin)
        if record is not None:
            _show_text(record, say)


def _show_text(record: dict[str, Any], say: Any) -> None:
    say("task", record["task"])
    say("condition", ", ".join(record["condition"] or []))
    say("instruction", record["instruction"])
    say("response", record["response"])
    say("meta", record.get("meta"))


def _show_near(store: Store, count: int) -> None:
    """The least similar near duplicates, each with the row that it lost to; what differs stands out."""
    import pyarrow.parquet as pq

    screen = console()
    with store.open(NEAR_DUPLICATES) as file:
        rows = pq.read_table(file, use_threads=False).slice(0, count).to_pylist()
    if not rows:
        screen.print("no near duplicates were dropped")
    for number, row in enumerate(rows, 1):
        screen.print(
            f"[bold]{number}[/]  similarity {row['score']:.3f}  dropped {row['row_id']} ({escape(row['source'])})"
            f"  kept {row['twin']} ({escape(row['twin_source'])})",
            soft_wrap=True,
        )
        for name in ("instruction", "response"):
            screen.print(f"  {name}: ", _difference(row[name], row[f"twin_{name}"]), soft_wrap=True)


def _difference(dropped: str, kept: str) -> Text:
    """Both texts as one: what only the dropped one has in red, what only the kept one has in green; else shortened."""
    old, new = dropped.split(), kept.split()
    text = Text()
    for kind, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            same = old[i:j]
            cut = [*same[:SHOWN_WORDS], f"[… {len(same) - 2 * SHOWN_WORDS} words …]", *same[-SHOWN_WORDS:]]
            text.append(" ".join(same if len(same) <= 2 * SHOWN_WORDS else cut) + " ")
        else:
            text.append("".join(f"[-{' '.join(words)}-] " for words in (old[i:j],) if words), "red")
            text.append("".join(f"[+{' '.join(words)}+] " for words in (new[k:m],) if words), "green")
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 found, 1 not found, 2 there is no dataset."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.explain",
        description="Tell what became of a row, and why.",
        epilog="example: python -m pipeline.explain out/mix 3fa9c1",
    )
    parser.add_argument("out", help="folder or fsspec URL of the dataset")
    parser.add_argument("row_id", nargs="?", help="a row's id, or its first digits")
    parser.add_argument(
        "--near", type=int, metavar="COUNT", help="show the near duplicates least like what they lost to (up to 100)"
    )
    options = parser.parse_args(arguments)
    if (options.row_id is None) == (options.near is None):
        parser.error("give either a row id or --near COUNT")
    if options.near is not None and options.near < 1:
        parser.error(f"--near is {options.near}; expected how many to show, 1 or more")
    try:
        store = Store(options.out, attempts=INTERACTIVE_ATTEMPTS)
        commit = json.loads(store.read(COMMIT))
        if not isinstance(commit, dict) or commit.get("format") != FORMAT or "files" not in commit:
            raise ValueError(f"{options.out}/{COMMIT}: is no commit record of format {FORMAT}; build the dataset again")
        if options.near is not None:
            _show_near(store, options.near)
        else:
            _show(store, commit, find(store, commit, options.row_id.lower()))
    except FileNotFoundError as error:
        print(f"error: {options.out}: {error.filename or error} is missing; build the dataset first", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except UnknownRowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
