"""Recall and precision of near-duplicate removal on planted pairs of labelled kinds, compared with datatrove.

    python -m tests.benchmarks.dedup_quality                             # records of the embedded mix, made-up prose
    python -m tests.benchmarks.dedup_quality --manifest mix.yaml         # records of your sources
    python -m tests.benchmarks.dedup_quality --datatrove PYTHON    # one with datatrove and spacy

Records are drawn from the sources; each gets one changed copy, of a kind in `tests.benchmarks.planted`. Some kinds are
duplicates and should be removed where their similarity reaches the threshold; others only look alike and should be
kept. Further kinds are in twelve languages (a negation, a number word, a word of opposite meaning, a name; white space,
punctuation, a polite prefix), in code and in algebra. All of them pass `near_dedup` together, and datatrove's MinHash
with the same parameters (5-word shingles, 14 bands of 8 hashes, instruction and response as one text). A pair is
removed if both end in one group, so that one of them is dropped. The similarity is computed by brute force: word sets
by a regular expression, in plain Python.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from corpus.pairs import read_pairs
from corpus.record import Pair as Record
from pipeline.dedup.near.spec import NearDedupSpec
from pipeline.dedup.near.table import near_dedup
from pipeline.ingest.inputs import discover_inputs
from pipeline.manifest import load
from tests.benchmarks import planted
from tests.benchmarks.datatrove_clusters import ABSENT
from tests.benchmarks.planted import Pair
from tests.benchmarks.planted_code import planted_code
from tests.benchmarks.planted_languages import BACKGROUND, REMOVED, planted_languages

LEAST, MOST = 60, 2500
"""Characters of the records that are drawn; longer ones would add only time."""
FROM_A_SOURCE = 6000
"""Records read from a source, about."""

DUPLICATES = ("white space and case", "punctuation", "a few words", "a sentence added")
OF_A_LANGUAGE = 100
"""Planted pairs of each kind in each language, and of code, with `--pairs 21000`."""


def _is_duplicate(kind: str) -> bool:
    return kind in DUPLICATES or kind.partition(": ")[2] in REMOVED


def _usable(pair: Pair) -> bool:
    """Whether a pair has a suitable size and would pass a build's cleaning."""
    return LEAST <= len(pair[0]) + len(pair[1]) <= MOST and all(pair) and "<think>" not in pair[1]


def drawn(manifest: Path, seed: int) -> list[Pair]:
    """Records of a mix in random order, the sources in turn for as long as they last."""
    mix = load(manifest)
    found = [(spec, file) for _, spec, file in discover_inputs(mix, manifest.parent) if spec.role == "train"]
    files = Counter(spec.name for spec, _ in found)
    sources: dict[str, dict[Pair, None]] = {}
    for spec, file in found:
        with closing(read_pairs(spec, file)) as reader:
            records = islice(reader, FROM_A_SOURCE // files[spec.name] + 1)
            pairs = [(r.instruction.strip(), r.response.strip()) for r in records if isinstance(r, Record)]
            chosen = sources.setdefault(spec.name, {})
            chosen.update(dict.fromkeys(p for p in pairs if _usable(p)))
    draw = random.Random(seed)
    lists = [draw.sample(list(pairs), len(pairs)) for pairs in sources.values()]
    return [pairs[i] for i in range(max(map(len, lists))) for pairs in lists if i < len(pairs)]


def plant(bases: Iterator[Pair], a_kind: int, seed: int) -> pl.DataFrame:
    """Planted pairs: columns kind, base_instruction, base_response, instruction, response."""
    draw = random.Random(seed)
    seen: list[Pair] = []

    def other_answer(pair: Pair) -> Pair | None:
        seen.append(pair)
        return planted.other_answer(pair, seen[-1000:], draw)

    kinds: dict[str, Callable[[Pair], Pair | None]] = {
        "white space and case": lambda pair: planted.space_and_case(pair, draw),
        "punctuation": lambda pair: planted.punctuation(pair, draw),
        "a few words": lambda pair: planted.few_words(pair, draw),
        "a sentence added": lambda pair: planted.sentence_added(pair, draw),
        "same instruction, other answer": other_answer,
        "a number": lambda pair: planted.number_changed(pair, draw),
        "a name": lambda pair: planted.name_changed(pair, draw),
        "an option": lambda pair: planted.option_changed(pair, draw),
        "order of options": lambda pair: planted.order_changed(pair, draw),
    }
    rows: list[tuple[str, str, str, str, str]] = []
    left = dict.fromkeys(kinds, a_kind)
    for pair in bases:
        # kinds that not every text allows come first
        for kind in sorted(left, key=lambda kind: (kind not in ("a few words", "a name", "a number"), -left[kind])):
            base = planted.with_options(pair, draw) if "option" in kind else pair
            if left[kind] and (changed := kinds[kind](base)) is not None and changed != base:
                rows.append((kind, *base, *changed))
                left[kind] -= 1
                break
        if not any(left.values()):
            break
    for _ in range(a_kind):
        problem, languages = planted.template_problem(draw), draw.sample(sorted(planted.TEMPLATES), 2)
        one, other = (planted.in_language(problem, language) for language in languages)
        rows.append(("translated template", *one, *other))
    return pl.DataFrame(rows, ["kind", "base_instruction", "base_response", "instruction", "response"], orient="row")


def similarity(a: Pair, b: Pair, size: int) -> float:
    """Jaccard similarity of two records' shingles, those of instruction and response kept apart."""
    one, other = _shingles(a, size), _shingles(b, size)
    return len(one & other) / len(one | other)


def _shingles(pair: Pair, size: int) -> set[tuple[str, ...]]:
    found = set()
    for field, text in zip("ir", pair, strict=True):
        words = re.findall(r"[\u4e00-\u9fff]|[^\W_\u4e00-\u9fff]+", re.sub("['’`]", "", text.lower()))
        width = min(size, len(words))
        found |= {(field, *words[i : i + width]) for i in range(len(words) - width + 1)}
    return found


def ours(rows: pl.DataFrame, spec: NearDedupSpec) -> NDArray[np.int64]:
    """The survivor of each row's group."""
    result = near_dedup(rows, spec)
    survivor = np.arange(len(rows))
    survivor[result.lost] = result.twin
    return survivor


def datatroves(rows: pl.DataFrame, spec: NearDedupSpec, python: str) -> NDArray[np.int64] | None:
    """The cluster of each row; None where `python` has no datatrove."""
    script = str(Path(__file__).with_name("datatrove_clusters.py"))
    with tempfile.TemporaryDirectory() as folder:
        texts, out = Path(folder, "texts.json"), Path(folder, "clusters.json")
        pairs = zip(rows["instruction"], rows["response"], strict=True)
        texts.write_text(
            json.dumps([f"{instruction}\n{response}" for instruction, response in pairs]), encoding="utf-8"
        )
        sizes = map(str, (spec.shingle, spec.bands, spec.rows))
        # Without our PYTHONPATH: that Python may be another environment.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run([python, script, str(texts), str(out), *sizes], env=environment)
        if done.returncode == ABSENT:
            return None
        done.check_returncode()
        return np.array(json.loads(out.read_text()), np.int64)


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main(arguments: Sequence[str] | None = None) -> None:
    """Plant, remove, print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.dedup_quality",
        description=(__doc__ or "").split("\n")[0],
        epilog="example: python -m tests.benchmarks.dedup_quality --pairs 5000",
    )
    parser.add_argument("--manifest", type=Path, default=Path("manifests/mix.yaml"), help="mix of the records")
    parser.add_argument("--pairs", type=int, default=21_000, help="planted pairs in all (21,000)")
    parser.add_argument("--made-up", type=float, default=0.5, help="share of the records that are made-up prose (0.5)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--datatrove", metavar="PYTHON", default=sys.executable, help="a Python that has datatrove")
    parser.add_argument("--show", metavar="KIND", help="print wrongly judged pairs of this kind")
    options = parser.parse_args(arguments)
    screen, spec = Console(width=150), NearDedupSpec()
    draw = random.Random(options.seed)
    records = iter(drawn(options.manifest, options.seed))

    def bases() -> Iterator[Pair]:
        while True:
            made_up = draw.random() < options.made_up
            yield planted.made_up(draw) if made_up else next(records, None) or planted.made_up(draw)

    pairs = plant(bases(), options.pairs // 10, options.seed)
    few = max(1, OF_A_LANGUAGE * options.pairs // 21_000)
    others = planted_languages(few, draw) + planted_code(few, draw)
    pairs = pairs.vstack(
        pl.DataFrame([(kind, *one, *other) for kind, one, other in others], pairs.columns, orient="row")
    )
    base = pairs.select("base_instruction", "base_response").rename(lambda name: name.removeprefix("base_"))
    rows = pl.concat([base, pairs.select("instruction", "response")])
    order = np.random.default_rng(options.seed).permutation(len(rows))
    screen.print(f"{len(pairs):,} planted pairs, {rows.estimated_size() / 1e6:.1f} MB of text")
    scores = np.array(
        [similarity((a, b), (c, d), spec.shingle) for a, b, c, d in pairs.drop("kind").iter_rows()], np.float64
    )
    judged: dict[str, NDArray[np.bool_]] = {}
    for name, method in (("ours", ours), ("datatrove", partial(datatroves, python=options.datatrove))):
        begin = _cpu_seconds()
        found = method(rows[order], spec)
        if found is None:
            screen.print(f"{options.datatrove} has no datatrove", markup=False, soft_wrap=True)
            continue
        group = np.empty(len(rows), np.int64)
        group[order] = found
        judged[name] = group[: len(pairs)] == group[len(pairs) :]
        screen.print(f"{name}: {_cpu_seconds() - begin:.1f} s of CPU")
    _print(screen, pairs["kind"].to_numpy(), scores >= spec.threshold, judged)
    if options.show:
        wrong = (pairs["kind"] == options.show).to_numpy() & (judged["ours"] != _is_duplicate(options.show))
        wrong &= (scores >= spec.threshold) | (not _is_duplicate(options.show))
        for line in pairs.with_columns(score=scores).filter(pl.Series(wrong)).head(20).iter_rows(named=True):
            screen.print(line, markup=False)


def _print(
    screen: Console, kinds: NDArray[np.object_], above: NDArray[np.bool_], judged: dict[str, NDArray[np.bool_]]
) -> None:
    table = Table(title="share of planted pairs of which one was removed")
    for name in ("kind", "should be", "pairs", "above the threshold", *judged):
        table.add_column(name, justify="left" if name in ("kind", "should be") else "right")
    names = [kind for kind in kinds.tolist() if kind != BACKGROUND]
    for kind in dict.fromkeys(sorted(names, key=lambda kind: (":" in kind, not _is_duplicate(kind)))):
        of_kind = kinds == kind
        # duplicates count if they are above the threshold, near-misses always
        counted = of_kind & above if _is_duplicate(kind) else of_kind
        shares = [f"{removed[counted].mean():.2%}" if counted.any() else "-" for removed in judged.values()]
        expected = "removed" if _is_duplicate(kind) else "kept"
        table.add_row(kind, expected, f"{of_kind.sum():,}", f"{(of_kind & above).sum():,}", *shares)
    screen.print(table)
    planted = kinds != BACKGROUND
    duplicates = np.array([_is_duplicate(kind) for kind in kinds])
    summary = Table(title="all kinds")
    for name in ("", *judged):
        summary.add_column(name, justify="right" if name else "left")
    recall = [f"{removed[duplicates & above].mean():.2%}" for removed in judged.values()]
    kept = [f"{(~removed[planted & ~duplicates]).mean():.2%}" for removed in judged.values()]
    precision = [f"{duplicates[planted & removed].mean():.2%}" for removed in judged.values()]
    summary.add_row("recall: duplicates above the threshold that were removed", *recall)
    summary.add_row("near-misses that were kept", *kept)
    summary.add_row("precision: removed pairs that are duplicates", *precision)
    screen.print(summary)


if __name__ == "__main__":
    main()
