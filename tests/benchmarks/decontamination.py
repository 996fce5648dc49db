"""Decontamination on real data: items found in train sets, planted leaks found, templates wrongly taken for items.

    python -m tests.benchmarks.decontamination                     # ../shared/data, about two minutes
    python -m tests.benchmarks.decontamination --per-set 5 --seed 7

Files below DATA/train_sources are train data, those below DATA/eval_sets eval sets. Tables:

1. Per eval set: items, searchable items, items found in train data, train records dropped.
2. Per train source: records, dropped, share; and the speed of the scan.
3. Planted leaks: items drawn from every eval set, each put into one record in several ways (`LEAKS`); an item is found
   if it is among the record's hits.
4. Rows that share only a template: questions of mathematics with all numbers, or also all names, changed; the words
   that two items of a set share, around another text; GSM8K's train set against its test set.
5. Train rows of multiple choice that have the question, and the options in any order, of an item of OpenBookQA or ARC,
   by comparison of all.
"""

import argparse
import random
import re
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from corpus.pairs import read_pairs
from corpus.record import Pair
from corpus.source import SourceSpec
from pipeline.decontaminate.contaminated import SHARD_BYTES, find_hits
from pipeline.decontaminate.index import Index
from pipeline.decontaminate.probes import build_index
from pipeline.decontaminate.spec import DecontaminateSpec
from pipeline.decontaminate.word_hashes import NUMBER_WORDS
from pipeline.ingest.clean import clean
from pipeline.ingest.inputs import discover_inputs
from pipeline.ingest.spec import CleanSpec
from pipeline.manifest import Mix

DATA = Path(__file__).parents[3] / "shared/data"
BATCH_ROWS = 8192
SOLUTION_WORDS = 20
STEM = 15
"""Words of a stem that is planted alone: some of them may be a template's."""

MAPS = {
    "koala_test_set": "{prompt}",
    "vicuna_test_set": "{text}",
    "wizardlm_test_set": "{Instruction}",
    "winogrande.jsonl": "{context_options.0} {continuation}",
    "winograd_wsc": "{context_options.0} {continuation}",
}
"""Eval sets without references, or without an adapter: part of the path, template of the instruction."""

Shards = Sequence[tuple[Index, pl.DataFrame]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with train_sources/ and eval_sets/")
    parser.add_argument("--per-set", type=int, default=40, help="items of each eval set that are planted (default 40)")
    parser.add_argument("--seed", type=int, default=20_260_521, help="of what is planted")
    args = parser.parse_args()
    if not (args.data / "eval_sets").is_dir():
        raise SystemExit(f"skipped: there is no {args.data}/eval_sets")
    console = Console(width=150)
    spec = DecontaminateSpec()
    train, held = (read(sources(args.data, role)) for role in ("train", "eval"))
    begin = time.perf_counter()
    shards = index(held, spec)
    seconds = time.perf_counter() - begin
    arrays = sum(found.nbytes for found, _ in shards)
    console.print(
        f"{len(train):,} train records ({size(train) / 1e6:.0f} MB), {len(held):,} eval items "
        f"({size(held) / 1e6:.0f} MB) of {held['source'].n_unique()} sets; indexed in {seconds:.1f} s, "
        f"{len(shards)} shards, {arrays / 1e6:.0f} MB"
    )
    find(train[:10], shards)  # compiles the kernels
    begin = time.process_time()
    hits = find(train, shards)
    seconds = time.process_time() - begin
    console.print(per_set(shards, hits))
    console.print(per_source(train, hits))
    console.print(f"scan: {seconds:.1f} s of one core, {size(train) / 1e6 / seconds:.1f} MB/s")
    searchable = pl.concat([items for _, items in shards]).filter(pl.col("searchable"))
    console.print(planted(searchable, train, shards, random.Random(args.seed), args.per_set, spec))
    console.print(templates(held, train, hits, shards, random.Random(args.seed + 1), spec))
    console.print(same_questions(held, train, hits))


def sources(data: Path, role: str) -> list[SourceSpec]:
    """One source for each train folder, and for each eval set: a folder, or a file in a folder of many sets."""
    if role == "train":
        paths = sorted((data / "train_sources").iterdir())
        return [SourceSpec(name=path.name, path=str(path)) for path in paths]
    found = []
    for folder in sorted((data / "eval_sets").iterdir()):
        one = folder.name in ("bbh", "mmlu", "gsm8k", "superni_test")
        for path in [folder] if one else sorted(path for path in folder.rglob("*") if path.is_file()):
            place = path.relative_to(folder.parent).as_posix()
            name = re.sub(r"[^A-Za-z0-9]+", "-", re.sub(r"\.(jsonl?|gz|zst)\b", "", place))
            template = next((template for part, template in MAPS.items() if part in place), None)
            mapped = {"map": {"instruction": template}} if template else {}
            found.append(SourceSpec.model_validate({"name": name, "path": str(path), "role": "eval", **mapped}))
    return found


def read(specs: list[SourceSpec]) -> pl.DataFrame:
    """All pairs of some sources, cleaned as a build does."""
    role = specs[0].role
    mix = Mix.model_construct(sources=specs)
    rows = [
        (
            f"{spec.name}/{file.path}:{pair.row}.{pair.part}",
            spec.name,
            pair.task,
            pair.instruction,
            pair.response,
            pair.meta,
        )
        for _, spec, file in discover_inputs(mix, Path())
        for pair in read_pairs(spec, file)
        if isinstance(pair, Pair)
    ]
    names = ["row_id", "source", "task", "instruction", "response", "meta"]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    frame = clean(frame, CleanSpec(), without_response=role == "eval")
    return frame.filter(pl.col("outcome").is_null()).select(names)


def size(frame: pl.DataFrame) -> int:
    return int(frame.select(pl.sum_horizontal(pl.col("instruction", "response").str.len_bytes())).to_series().sum())


def index(items: pl.DataFrame, spec: DecontaminateSpec) -> Shards:
    """Indexes of eval items, sharded as in a build."""
    ends = items.select(pl.sum_horizontal(pl.col("instruction", "response").str.len_bytes()).cum_sum() // SHARD_BYTES)
    parts = items.with_columns(ends.to_series().alias("shard")).partition_by("shard", include_key=False)
    built = []
    for part in parts:
        found, searchable = build_index(part, spec)
        built.append((found, part.with_columns(searchable=searchable)))
    return built


def find(records: pl.DataFrame, shards: Shards) -> pl.DataFrame:
    """Hits of all records; `row` counts them from the first."""
    parts = []
    for begin in range(0, len(records), BATCH_ROWS):
        found = find_hits(records[begin : begin + BATCH_ROWS], shards)
        parts.append(found.with_columns(pl.col("row") + begin))
    return pl.concat(parts)


def per_set(shards: Shards, hits: pl.DataFrame) -> Table:
    items = pl.concat([items.select("source", "searchable") for _, items in shards])
    totals = items.group_by("source", maintain_order=True).agg(pl.len(), pl.col("searchable").sum())
    found = hits.group_by(source="eval_source").agg(
        hit=pl.struct("shard", "place").n_unique(), records=pl.col("row").n_unique(), coverage=pl.col("coverage").mean()
    )
    table = Table("eval set", title="Eval sets in train data")
    for name in ("items", "searchable", "found", "share", "train records", "mean coverage"):
        table.add_column(name, justify="right")
    for row in totals.join(found, on="source", how="left", maintain_order="left").iter_rows(named=True):
        hit = row["hit"] or 0
        rest = (f"{row['records']:,}", f"{row['coverage']:.3f}") if hit else ("-", "-")
        table.add_row(
            row["source"], f"{row['len']:,}", f"{row['searchable']:,}", f"{hit:,}", f"{hit / row['len']:.1%}", *rest
        )
    return table


def per_source(train: pl.DataFrame, hits: pl.DataFrame) -> Table:
    lost = hits.unique("row").group_by("source").agg(lost=pl.len())
    totals = (
        train.group_by("source", maintain_order=True).len().join(lost, on="source", how="left", maintain_order="left")
    )
    table = Table("train source", title="Train records that contain an eval item")
    for name in ("records", "dropped", "share"):
        table.add_column(name, justify="right")
    for name, count, dropped in [*totals.iter_rows(), ("all", len(train), hits["row"].n_unique())]:
        table.add_row(name, f"{count:,}", f"{dropped or 0:,}", f"{(dropped or 0) / count:.2%}")
    return table


# Planted leaks


def verbatim(item: dict[str, Any], other: Sequence[dict[str, Any]], draw: random.Random) -> tuple[str, str]:
    return item["instruction"], item["response"] or other[0]["response"]


def recased(item: dict[str, Any], other: Sequence[dict[str, Any]], draw: random.Random) -> tuple[str, str]:
    """Other letter case, punctuation removed or set apart, other quotes, other white space."""
    question, answer = verbatim(item, other, draw)
    change = draw.choice([str.lower, str.upper, str.title])
    marks = draw.choice(["", r" \1", r"\1\1"])
    width = draw.choice([0, 40, 72])

    def typeset(text: str) -> str:
        text = re.sub(r"([,;:!?]|\.)(?=\s|$)", marks, change(text))
        text = text.replace("'", "’").replace('"', "“")
        lines = [textwrap.fill(line, width) if width else line.replace(" ", "  ") for line in text.split("\n")]
        return "\n".join(lines)

    return typeset(question), typeset(answer)


TEMPLATES = (
    "Solve this problem step by step.\n\n{question}\n\nShow your work.",
    "Q: {question}\nA:",
    "Below is an instruction. Write a response that completes it.\n\n### Instruction:\n{question}\n\n### Response:",
    "{first}\n\n{first_answer}\n\n{question}",
    "User: {first}\n\nAssistant: {first_answer}\n\nUser: {question}",
    'I was asked this in a test today: "{question}" What would you say?',
)
LABELS = ("({}) ", "{}) ", "Option {}: ", "- ")


def retemplated(item: dict[str, Any], other: Sequence[dict[str, Any]], draw: random.Random) -> tuple[str, str]:
    """In another template, with options in another order and under other labels."""
    question, answer = verbatim(item, other, draw)
    stem, mark, options = question.rpartition("\n\nA. ")
    if mark and re.search(r"\nB\. ", options):
        texts = re.split(r"\n[B-J]\. ", options)
        draw.shuffle(texts)
        label = draw.choice(LABELS)
        lines = [
            label.format("ABCDEFGHIJ"[n] if "Option" not in label else n + 1) + text
            for n, text in enumerate(texts[:10])
        ]
        question = stem + "\n" + "\n".join(lines)
    template = draw.choice(TEMPLATES)
    if draw.random() < 0.2:  # in the response
        return other[0]["instruction"], f"Here is a question with its answer.\n\n{question}\n\n{answer}"
    text = template.format(question=question, first=other[0]["instruction"], first_answer=other[0]["response"])
    return text, answer


def split_options(question: str) -> tuple[str, list[str]]:
    """Stem and options of a question; no options if it has none."""
    stem, mark, options = question.rpartition("\n\nA. ")
    if not mark or not re.search(r"\nB\. ", options):
        return question, []
    return stem, re.split(r"\n[B-J]\. ", options)


def stem_alone(item: dict[str, Any], other: Sequence[dict[str, Any]], draw: random.Random) -> tuple[str, str]:
    """The stem without its options, answered by letter, by position, in other words, or in another language."""
    stem, _ = split_options(item["instruction"])
    answers = ("(B)", "answer2", "The second one.", "Die zweite Antwort ist richtig.", other[0]["response"][:200])
    return stem, draw.choice(answers)


def permuted(item: dict[str, Any], other: Sequence[dict[str, Any]], draw: random.Random) -> tuple[str, str]:
    """Options in another order under other labels, answered by position."""
    stem, options = split_options(item["instruction"])
    draw.shuffle(options)
    label = draw.choice(("({}) ", "{}) ", "{}: ", "- "))
    lines = [label.format("ABCDEFGHIJ"[n % 10]) + text for n, text in enumerate(options)]
    return stem + "\n" + "\n".join(lines), f"answer{draw.randint(1, max(1, len(options)))}"


def embedded(item: dict[str, Any], other: Sequence[dict[str, Any]], draw: random.Random) -> tuple[str, str]:
    """In the middle of a long text."""
    filler = [f"{record['instruction']}\n\n{record['response']}" for record in other]
    text = f"{filler[0]}\n\n{item['instruction']}\n\n{filler[1]}"
    return text, item["response"] or other[0]["response"]


def short_lines(item: dict[str, Any], other: Sequence[dict[str, Any]], draw: random.Random) -> tuple[str, str]:
    """Broken into lines of two to six words."""
    stem, options = split_options(item["instruction"])
    words, lines = stem.split(), []
    while words:
        count = draw.randint(2, 6)
        lines.append(" ".join(words[:count]))
        words = words[count:]
    lines += [f"{'ABCDEFGHIJ'[n % 10]}. {text}" for n, text in enumerate(options)]
    return "\n".join(lines), item["response"] or other[0]["response"]


def number_words(item: dict[str, Any], other: Sequence[dict[str, Any]], draw: random.Random) -> tuple[str, str]:
    """Digits for number words, and number words for digits."""
    names = NUMBER_WORDS.split()
    digits = {name: str(n) for n, name in enumerate(names)} | {str(n): name for n, name in enumerate(names)}
    text = re.sub(r"(?<![\w.,$/+*=^-])\w+(?![\w/+*=^%-]|[.,]\d)", lambda m: digits.get(m[0], m[0]), item["instruction"])
    return text, item["response"] or other[0]["response"]


def broken_words(item: dict[str, Any], other: Sequence[dict[str, Any]], draw: random.Random) -> tuple[str, str]:
    """The stem without blanks, or in lines of equal length that break words."""
    stem, _ = split_options(item["instruction"])
    size = draw.choice([0, 30, 60])
    text = "\n".join(stem[at : at + size] for at in range(0, len(stem), size)) if size else re.sub(r"\s", "", stem)
    return text, other[0]["response"]


def other_letters(item: dict[str, Any], other: Sequence[dict[str, Any]], draw: random.Random) -> tuple[str, str]:
    """The stem with Cyrillic or Greek letters drawn like Latin ones, or with accents."""
    stem, _ = split_options(item["instruction"])
    cyrillic, greek, marks = (
        str.maketrans(*pair) for pair in (("aceopxy", "асеорху"), ("oai", "οαι"), ("aeiou", "áèïõů"))
    )
    return stem.translate(draw.choice([cyrillic, greek, marks])), other[0]["response"]


def changed(count: int) -> "Leak":
    """The stem with some of its plain words, apart from its last four and from each other, replaced."""

    def make(item: dict[str, Any], other: Sequence[dict[str, Any]], draw: random.Random) -> tuple[str, str]:
        stem, _ = split_options(item["instruction"])
        words = stem.split(" ")
        places = [place for place in range(1, len(words) - 4) if re.fullmatch(r"[a-z]{4,}", words[place])]
        for place in draw.sample(places[::3], min(count, len(places[::3]))):
            words[place] = draw.choice(("chisel", "bellows", "gantry"))
        return " ".join(words), other[0]["response"]

    return make


def first_half(item: dict[str, Any], other: Sequence[dict[str, Any]], draw: random.Random) -> tuple[str, str]:
    """The first half of the stem's words."""
    words = split_options(item["instruction"])[0].split(" ")
    return " ".join(words[: len(words) // 2]), other[0]["response"]


def solution_only(item: dict[str, Any], other: Sequence[dict[str, Any]], draw: random.Random) -> tuple[str, str]:
    """The worked solution under another instruction, between other words."""
    text = re.sub(r"<<[^>]*>>", "", item["response"]) if draw.random() < 0.5 else item["response"]
    before, after = draw.choice([("", ""), ("Let us see. ", ""), ("Sure!\n\n", "\n\nThat is all.")])
    return other[0]["instruction"], f"{before}{text}{after}"


Leak = Callable[[dict[str, Any], Sequence[dict[str, Any]], random.Random], tuple[str, str]]
LEAKS: tuple[tuple[str, Leak, float], ...] = (
    ("verbatim, with its answer", verbatim, 0.99),
    ("re-cased, re-punctuated", recased, 0.99),
    ("inside another template", retemplated, 0.95),
    ("worked solution alone", solution_only, 0.95),
    ("stem alone, another answer", stem_alone, 0.97),
    ("permuted options, answer by position", permuted, 0.97),
    ("embedded in a long text", embedded, 0.97),
    ("split over short lines", short_lines, 0.97),
    ("number words and digits exchanged", number_words, 0.97),
    ("long stem broken inside words or without blanks", broken_words, 0.97),
    ("long stem in letters that look alike", other_letters, 0.97),
    ("long stem with a word changed", changed(1), 0.0),
    ("long stem with two words changed", changed(2), 0.0),
    ("first half of a long stem", first_half, 0.0),
)
"""Name, how a record is made, and the goal; 0: none, since some of these are other questions by the rule."""


def planted(
    held: pl.DataFrame, train: pl.DataFrame, shards: Shards, draw: random.Random, count: int, spec: DecontaminateSpec
) -> Table:
    table = Table("leak", title="Planted leaks of searchable items")
    for name in ("items", "found", "share", "goal", "eval sets with the lowest shares"):
        table.add_column(name, justify="left" if "lowest" in name else "right")
    short = pl.col("instruction").str.count_matches(r"[\p{L}\p{N}]+") < spec.min_words
    long = pl.col("response").str.count_matches(r"[\p{L}\p{N}]+") >= SOLUTION_WORDS
    for name, make, goal in LEAKS:
        choice = pl.col("instruction").str.contains(r"(?s)\n\nA\. .*\nB\. ")
        long_stem = pl.col("instruction").str.replace(r"(?s)\n\nA\. .*", "").str.count_matches(r"[\p{L}\p{N}]+") >= STEM
        only = {"worked solution alone": long, "stem alone, another answer": choice & long_stem}
        only |= {"permuted options, answer by position": choice & ~short}
        only |= {label: long_stem for label, *_ in LEAKS if "long stem" in label}
        kinds = (
            [(name, held.filter(only[name]), f"{goal:.0%}" if goal else "-")]
            if name in only
            else [
                (name, held.filter(~short), f"{goal:.0%}"),
                (f"{name}: questions of fewer than {spec.min_words} words", held.filter(short), "-"),
            ]
        )
        for label, items, aim in kinds:
            chosen = [row for part in items.partition_by("source") for row in pick(part, count, draw)]
            others = pick(train, 2 * len(chosen), draw)
            texts = [make(item, others[2 * n : 2 * n + 2], draw) for n, item in enumerate(chosen)]
            found = held_by(records(texts), [item["row_id"] for item in chosen], shards)
            result = pl.DataFrame({"source": [item["source"] for item in chosen], "found": found})
            worst = result.group_by("source").agg(pl.col("found").mean(), n=pl.len()).filter(pl.col("n") >= 5)
            worst = worst.filter(pl.col("found") < 1).sort("found", "source")[:4]
            shown = ", ".join(f"{source} {share:.0%}" for source, share, _ in worst.iter_rows())
            table.add_row(label, f"{len(found):,}", f"{sum(found):,}", f"{np.mean(found):.2%}", aim, shown or "-")
    return table


def pick(frame: pl.DataFrame, count: int, draw: random.Random) -> list[dict[str, Any]]:
    return frame[sorted(draw.sample(range(len(frame)), min(count, len(frame))))].to_dicts()


def records(texts: Sequence[tuple[str, str]]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "row_id": [str(number) for number in range(len(texts))],
            "source": "planted",
            "task": "planted",
            "instruction": [text for text, _ in texts],
            "response": [text for _, text in texts],
        }
    )


def held_by(planted: pl.DataFrame, items: Sequence[str], shards: Shards) -> list[bool]:
    """Whether each record's hits include the item that was planted in it."""
    hits = set(find(planted, shards).select("row", "item").iter_rows())
    return [(row, item) in hits for row, item in enumerate(items)]


# Templates


def templates(
    held: pl.DataFrame,
    train: pl.DataFrame,
    hits: pl.DataFrame,
    shards: Shards,
    draw: random.Random,
    spec: DecontaminateSpec,
) -> Table:
    """Hits on rows made from items, or on a train set whose test set is an eval set."""
    table = Table("rows", title="Rows that share only a template (goal: at most 0.1 % hit)")
    for name in ("rows", "hit", "share", "which"):
        table.add_column(name, justify="left" if name == "which" else "right")

    def add(name: str, count: int, found: pl.DataFrame) -> None:
        rows = found.unique("row").group_by("eval_source").len().sort("len", "eval_source", descending=[True, False])
        which = ", ".join(f"{source} {number}" for source, number in rows[:4].iter_rows())
        number = found["row"].n_unique()
        table.add_row(name, f"{count:,}", f"{number:,}", f"{number / max(count, 1):.3%}", which or "-")

    stem = pl.col("instruction").str.replace(r"(?s)(?:\n\nA\. |Answer Choices|The options:).*", "")
    numeric = held.filter(pl.col("source").str.contains(MATHS) & (stem.str.count_matches(LONE_NUMBER) >= 2))
    for name, change in (("numbers changed", renumbered), ("numbers and names changed", renamed)):
        changed = records([change(row, draw) for row in numeric.select("instruction", "response").iter_rows()])
        found = find(changed, shards)
        found = found.filter(found["item"] == numeric["row_id"].gather(found["row"]))
        add(f"questions of mathematics with all {name}", len(changed), found)
    clean = train.with_row_index("row").filter(~pl.col("row").is_in(hits["row"].unique().implode()))
    texts = [row for part in held.partition_by("source") for row in hollowed(part, clean, draw)]
    add("another text between what two items share", len(texts), find(records(texts), shards))
    gsm8k = hits.filter(pl.col("source").str.starts_with("gsm8k") & pl.col("eval_source").str.contains("gsm8k"))
    add("GSM8K train against its test set", len(train.filter(pl.col("source").str.starts_with("gsm8k"))), gsm8k)
    return table


MATHS = r"(?i)gsm8k|svamp|asdiv|addsub|multiarith|singleeq|mawps|aqua|-math$|college-math|minerva|olympiad|aime"
NUMBER = r"(?<![A-Za-z\d])\d+(?![A-Za-z\d])"
"""Not the "1" of "Answer1", which is a label."""
NAME = r"(?<=[a-z,] )[A-Z][a-z]{2,}\b"
"""A capitalised word inside a sentence."""


LONE_NUMBER = r"(?:^|[\s$(])\d+(?:[\s.,?)$]|$)"


def renumbered(pair: tuple[str, str], draw: random.Random) -> tuple[str, str]:
    """The pair with every number replaced by another of as many digits, consistently."""
    numbers: dict[str, str] = {}

    def other(match: re.Match[str]) -> str:
        old = match[0]
        while numbers.get(old, old) == old:
            numbers[old] = str(draw.randrange(10 ** (len(old) - 1), 10 ** len(old)))
        return numbers[old]

    first, second = (re.sub(NUMBER, other, text) for text in pair)
    return first, second


def renamed(pair: tuple[str, str], draw: random.Random) -> tuple[str, str]:
    """The pair with numbers and names replaced."""
    found = dict.fromkeys(re.findall(NAME, " ".join(pair)))
    names = dict(zip(found, draw.sample(OTHER_NAMES, len(OTHER_NAMES)), strict=False))
    first, second = (re.sub(r"\b[A-Z][a-z]{2,}\b", lambda m: names.get(m[0], m[0]), text) for text in pair)
    return renumbered((first, second), draw)


OTHER_NAMES = [
    "Ottilie",
    "Bartholomew",
    "Xanthe",
    "Zebedee",
    "Ludmila",
    "Ignatius",
    "Philippa",
    "Torquil",
    "Wilhelmina",
]


def hollowed(items: pl.DataFrame, train: pl.DataFrame, draw: random.Random, count: int = 40) -> list[tuple[str, str]]:
    """Train records' texts between the words, at least four, with which two items of a set begin and end alike."""
    texts = []
    for first, second in zip(pick(items, count, draw), pick(items, count, draw), strict=True):
        a, b = first["instruction"].split(" "), second["instruction"].split(" ")
        if a == b:
            continue
        begin = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        rest = min(len(a), len(b)) - begin
        end = next((n for n in range(rest) if a[-n - 1] != b[-n - 1]), rest)
        if begin + end >= 4:
            (filler,) = pick(train, 1, draw)
            words = [*a[:begin], filler["instruction"], *a[len(a) - end :]]
            texts.append((" ".join(words), filler["response"]))
    return texts


# The truth by comparison


def parts(text: str) -> tuple[str, frozenset[str]] | None:
    """Letters and digits of a question's stem and of its options; None if it has no options."""
    text = re.sub(r"\n+Answer format:.*", "", text, flags=re.DOTALL)
    text = re.sub(r"^(?:Please choose the correct answer to the question|Question): ", "", text)
    stem, *options = re.split(r"(?:\n|^| )(?:Answer\d+:|[A-J]\.|\([a-jA-J]\)) ", text)

    def plain(part: str) -> str:
        return re.sub(r"[\W_]+", " ", part.lower()).strip()

    return (plain(stem), frozenset(map(plain, options))) if len(options) > 1 else None


def same_questions(held: pl.DataFrame, train: pl.DataFrame, hits: pl.DataFrame) -> Table:
    """Rows with the stem, and with the options too, of an item, and how many of these pairs were found."""
    table = Table("eval set", title="Train rows with the question of an item, by comparison of all")
    for name in ("items", "same question and options", "found", "same question, other options", "found"):
        table.add_column(name, justify="right")
    rows: dict[str, list[tuple[int, frozenset[str]]]] = {}
    for row, text in enumerate(train["instruction"]):
        if found := parts(text):
            rows.setdefault(found[0], []).append((row, found[1]))
    pairs = set(hits.select("row", "item").iter_rows())
    for (source,), items in held.group_by("source", maintain_order=True):
        if not re.search(r"(?i)openbook|arc-", str(source)):
            continue
        same: list[bool] = []
        other: list[bool] = []
        for item, text in items.select("row_id", "instruction").iter_rows():
            stem, options = parts(text) or (text, frozenset())
            for row, given in rows.get(stem, []):
                (same if given == options else other).append((row, item) in pairs)
        table.add_row(
            str(source), f"{len(items):,}", *(f"{n:,}" for n in (len(same), sum(same), len(other), sum(other)))
        )
    return table


if __name__ == "__main__":
    main()
