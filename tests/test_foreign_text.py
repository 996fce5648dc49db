"""Nothing that data says controls a terminal or becomes part of a page: every command, on data that tries."""

import io
import json
import re
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from rich.table import Table
from rich.text import Text

import corpus.inspect
import corpus.pages
import pipeline.build
import pipeline.contamination
import pipeline.explain
import pipeline.verify
import trainer.benchmark
import trainer.checkpoints
import trainer.diagnose
import trainer.generate
import trainer.train
from corpus.cli import Main
from corpus.terminal import make_console, printable
from model.command import printable as printable_of_model
from tests.captured import run_captured
from tests.pipeline.conftest import texts, write_jsonl
from tests.trainer.fixtures import write_manifest

pytestmark = pytest.mark.slow  # builds a dataset and trains a model

CONTROLS = "\x1b[31m\x1b]0;t\x07\x1b[2J\x00\x08\x0c\r\x7f\x85\x9b5n\x9d\u202e\u2066\u2069\u200f\u2028"
"""CSI and OSC sequences, C1 controls, NUL, backspace, carriage return, and changes of the direction of text."""
CATEGORIES = ("Cc", "Cs", "Zl", "Zp")
DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
MARKUP = "'\"><script>alert(1)</script><img src=x onerror=alert(1)>[bold][/nothing]:bug:&lt;{{ 7*7 }}"
HOSTILE = CONTROLS + MARKUP
NAME = HOSTILE.replace("\x00", "").replace("/", "|") + "\udcff"
"""The same as the name of a file, with a byte that is not UTF-8."""


def raw_controls(text: str) -> list[str]:
    """The characters of a text that a terminal obeys, line ends and tabs aside."""
    return [c for c in text if c not in "\n\t" and (unicodedata.category(c) in CATEGORIES or c in DIRECTIONS)]


class Page(HTMLParser):
    """Collects what runs or loads something on a page, apart from Millrace's own, and the page's text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.foreign: list[object] = []
        self.text = ""
        search = (Path(corpus.pages.__file__).parent / "search.js").read_text(encoding="utf-8")
        self.feed(path.read_text(encoding="utf-8").replace(search, ""))

    def handle_starttag(self, tag: str, attributes: Sequence[tuple[str, str | None]]) -> None:
        if tag in ("iframe", "object", "embed", "form", "base"):
            self.foreign.append(tag)
        for name, value in attributes:
            text = value or ""
            loads = name == "src" and not text.startswith("data:image/svg+xml;base64,")
            leads = name == "href" and not text.startswith(("#", "https://"))
            if name.startswith("on") or loads or leads or "alert" in name:
                self.foreign.append((tag, name, value))

    def handle_endtag(self, tag: str) -> None:
        if tag == "script" and self.text.endswith("alert(1)"):
            self.foreign.append(self.text[-40:])

    def handle_data(self, data: str) -> None:
        self.text += data


def run(main: Main, *arguments: object, code: int = 0) -> str:
    """Run a command, check what it and its processes print, and return that."""
    found, text = run_captured(main, *arguments)
    assert found == code, text
    assert raw_controls(text) == [], ascii(text)
    assert "Traceback" not in text
    return text


def write_hostile(folder: Path) -> Path:
    """A mix whose every field says `HOSTILE`; returns its manifest."""
    good = [
        {"instruction": f"{a} {HOSTILE}", "response": f"{b} {HOSTILE}", "kind": f"k{n % 2}{HOSTILE}", HOSTILE: HOSTILE}
        for n, (a, b) in enumerate(texts(1, 60))
    ]
    plain = "Name the towns on the river between the two lakes, in the order of a boat that goes down from the north"
    near = [
        {
            "instruction": f"{polite}{plain}, number {n}",
            "response": f"The towns of {n}{CONTROLS}",
            "kind": f"k1{HOSTILE}",
        }
        for n in ("one", "two")
        for polite in ("", "Please: ")
    ]
    bad = [
        '{"instruction": "' + HOSTILE.replace('"', "") + "\x1b",
        {"instruction": HOSTILE, "response": {HOSTILE: HOSTILE}},
        {"instruction": "", "response": HOSTILE},
        {"messages": [{"role": HOSTILE, "content": HOSTILE}, {"role": "assistant", "content": HOSTILE}]},
        {"prompt": HOSTILE, "completion": HOSTILE, "label": HOSTILE},
        {HOSTILE: HOSTILE},
    ]
    write_jsonl(folder / "good" / f"{NAME}.jsonl", [*good, *near, *bad])
    bad_folder = folder / "bad"
    bad_folder.mkdir()
    (bad_folder / f"{NAME}.csv").write_text(f'instruction,response,{HOSTILE}\nx,"y{HOSTILE}"z,1\n"{HOSTILE},\n')
    (bad_folder / f"{NAME}.yaml").write_text(f"- instruction: {HOSTILE}\n  - {HOSTILE}: [")
    (bad_folder / f"{NAME}.json").write_text('[{"instruction": "' + HOSTILE + '", ' + HOSTILE)
    (bad_folder / f"{NAME}.parquet").write_bytes(b"PAR1" + HOSTILE.encode() * 9 + b"PAR1")
    (bad_folder / f"{NAME}.bin").write_bytes(HOSTILE.encode() * 9)
    (bad_folder / f"{NAME}.gz").write_bytes(b"\x1f\x8b\x08" + HOSTILE.encode())
    pq.write_table(pa.table({HOSTILE: [HOSTILE] * 3, "b": [HOSTILE] * 3}), bad_folder / f"odd{NAME[:-1]}.parquet")
    with zipfile.ZipFile(bad_folder / "set.zip", "w") as archive:
        archive.writestr(NAME.replace("\udcff", "") + ".jsonl", '{"instruction": "' + HOSTILE)
    with tarfile.open(bad_folder / "set.tar", "w") as tar:
        info = tarfile.TarInfo(f"../{NAME}.jsonl")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"[{\x1b"))
    leaked = {"instruction": good[0]["instruction"], "response": good[0]["response"]}
    held = [{"question": f"{a} {HOSTILE}", "answer": b[:20], "topic": f"t{HOSTILE}"} for a, b in texts(5, 8)]
    write_jsonl(folder / f"held{NAME}.jsonl", [*held, {"question": leaked["instruction"], "answer": "9", "topic": "t"}])
    allow = {"unreadable": 1, "truncated": 1}
    manifest = {
        "name": f"mix {HOSTILE}".replace("\x00", ""),
        "license": f"licence {HOSTILE}",
        "sources": [
            {"name": "good", "path": "good", "task": "column:kind", "guard": allow},
            {"name": "bad", "path": "bad", "guard": allow},
            {"name": "held", "path": f"held*{MARKUP[:2]}*.jsonl", "role": "eval", "task": "column:topic"},
        ],
        "guard": {"max_share": 1, "allow_empty": ["bad"]},
        "tokenizer": {"vocab_size": 400},
    }
    (folder / "mix.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
    return folder / "mix.yaml"


@pytest.fixture(scope="module")
def mix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hostile(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def dataset(mix: Path) -> Path:
    """The mix, built by the command, whose progress and summary are checked."""
    text = run(pipeline.build.main, mix, "--out", mix.parent / "out", "--workers", 1)
    assert text.count("alert(1)") > 5
    return mix.parent / "out"


@pytest.fixture(scope="module")
def trained(mix: Path, dataset: Path) -> Path:
    """Two steps on the mix, by the command, whose progress and evaluation are checked."""
    changes = {"batch": {"tokens": 512, "row_tokens": 512, "truncate": True}, "steps": 2, "epochs": None}
    manifest = write_manifest(mix.parent, dataset, eval={"rows_per_family": 1}, **changes)
    assert run(trainer.train.main, manifest).count("alert(1)") > 1
    return mix.parent / "run"


def test_dry_run_prints_no_control_character(mix: Path) -> None:
    text = run(pipeline.build.main, mix, "--dry-run", "--verbose")
    assert text.count("alert(1)") > 20
    assert "[bold][/nothing]:bug:" in text


def test_report_page_and_card_have_no_markup_of_the_data(dataset: Path) -> None:
    page = Page(dataset / "report/index.html")
    assert (page.foreign, raw_controls(page.text)) == ([], [])
    assert page.text.count("<script>alert(1)") > 20
    _, _, card = (dataset / "README.md").read_text().split("---\n", 2)
    assert "<script" not in card
    assert raw_controls(card) == []


def test_commands_on_a_dataset_print_no_control_character(mix: Path, dataset: Path) -> None:
    base = ("--base", mix.parent)
    assert run(corpus.inspect.main, dataset, "--sample", 9).count("alert(1)") > 20
    assert "alert(1)" in run(corpus.inspect.main, dataset, "--search", "alert", "--sample", 2)
    assert "alert(1)" in run(corpus.inspect.main, dataset, "--search", HOSTILE[-9:], "--dropped", *base)
    run(corpus.inspect.main, dataset, "--search", HOSTILE)
    run(corpus.inspect.main, dataset, "--source", HOSTILE, code=2)
    ledger = pl.read_parquet(dataset / "ledger/rows-*.parquet").unique("outcome", maintain_order=True)
    assert len(ledger) > 4
    for row_id in ledger["row_id"]:
        run(pipeline.explain.main, dataset, row_id, *base)
    assert "The towns of" in run(pipeline.explain.main, dataset, "--near", 5)
    run(pipeline.explain.main, dataset, HOSTILE, code=2)
    run(pipeline.explain.main, dataset, "--file", NAME, "--row", 1, code=1)
    assert "ok" in run(pipeline.verify.main, dataset)


def test_contamination_test_prints_no_control_character(mix: Path, dataset: Path, tmp_path: Path) -> None:
    scores = tmp_path / "scores.jsonl"
    ids = [json.loads(line)["row_id"] for line in (dataset / "eval/held.jsonl").open("rb")]
    write_jsonl(scores, [{"item": row_id, "score": n} for n, row_id in enumerate(ids)])
    run(pipeline.contamination.main, dataset, "--eval", "held", "--scores", scores)
    write_jsonl(scores, [{"item": HOSTILE, "score": 1}])
    run(pipeline.contamination.main, dataset, "--eval", "held", "--scores", scores, code=2)
    write_jsonl(scores, [{"item": ids[0], "score": HOSTILE}])
    run(pipeline.contamination.main, dataset, "--eval", "held", "--scores", scores, code=2)


def test_verify_of_a_dataset_with_foreign_names_prints_no_control_character(dataset: Path, tmp_path: Path) -> None:
    content = json.loads((dataset / "dataset.json").read_text())
    for key, value in {
        "format": HOSTILE,
        HOSTILE: HOSTILE,
        "files": {NAME[:-1]: {"bytes": 1, "sha256": HOSTILE}},
    }.items():
        (tmp_path / "dataset.json").write_text(json.dumps(content | {key: value}))
        for main in (pipeline.verify.main, corpus.inspect.main, pipeline.explain.main):
            more = ["--near", 1] if main is pipeline.explain.main else []
            text = "" if key == HOSTILE and main is not pipeline.verify.main else run(main, tmp_path, *more, code=1)
            assert "alert(1)\n" not in text


def test_commands_on_a_run_print_no_control_character(dataset: Path, trained: Path, tmp_path: Path) -> None:
    run(trainer.generate.main, trained, HOSTILE, "--max-new-tokens", 3)
    run(trainer.checkpoints.main, trained)
    write_jsonl(tmp_path / "questions.jsonl", [{"question": HOSTILE, "answer": HOSTILE, "group": HOSTILE}] * 3)
    task = {"name": "words", "file": "questions.jsonl", "type": "exact", "group": "group", "max_new_tokens": 2}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task))
    out = tmp_path / "scores"
    run(trainer.benchmark.main, trained, "--task-file", tmp_path / "task.yaml", "--out", out, "--dataset", dataset)
    page = Page(out / "index.html")
    assert (page.foreign, raw_controls(page.text)) == ([], [])
    assert "<script>alert(1)" in page.text
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task | {"name": HOSTILE, "question": HOSTILE}))
    run(trainer.benchmark.main, trained, "--task-file", tmp_path / "task.yaml", "--out", out, code=2)
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task | {"question": HOSTILE}))
    run(trainer.benchmark.main, trained, "--task-file", tmp_path / "task.yaml", "--out", out, code=1)


def test_foreign_checkpoints_are_refused_without_control_characters(trained: Path) -> None:
    (folder,) = (trained / "checkpoints").glob("step-*")
    for name in ("COMMIT.json", "trainer.json", "config.json", "tokenizer.json"):
        whole = (folder / name).read_bytes()
        for content in (json.dumps({HOSTILE: HOSTILE}), HOSTILE, json.dumps(HOSTILE)):
            (folder / name).write_text(content)
            run(trainer.checkpoints.main, trained, code=1)
            run(trainer.generate.main, trained, "x", code=1)
        (folder / name).write_bytes(whole)


@pytest.mark.parametrize(
    "where", ["sources.0.name", "sources.0.condition.0", "sources.0.task", "tokenizer.file", "rules", "x"]
)
def test_wrong_values_of_a_manifest_are_shown_without_control_characters(mix: Path, where: str) -> None:
    content = yaml.safe_load(mix.read_text())
    content["sources"][0]["condition"] = [""]
    content |= {"rules": {}, "tokenizer": {"file": None}}
    *parents, last = where.split(".")
    place = content
    for step in parents:
        place = place[int(step)] if isinstance(place, list) else place[step]
    if isinstance(place, list):
        place[int(last)] = HOSTILE
    else:
        place[last] = {HOSTILE: HOSTILE} if last in ("rules", "x") else HOSTILE
    path = mix.with_name("wrong.yaml")
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    run(pipeline.build.main, path, "--dry-run", code=2)


def test_console_shows_texts_as_they_are_without_what_controls_a_terminal() -> None:
    shown = io.StringIO()
    screen = make_console(file=shown, force_terminal=True, width=200, color_system="truecolor", markup=False)
    table = Table(title=Text(HOSTILE, "red"))
    table.add_row(HOSTILE, Text(HOSTILE, "bold"))
    for content in (HOSTILE, table):
        screen.print(content)
    screen.rule(HOSTILE)
    assert "alert(1)" in shown.getvalue()
    own = re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue())  # the colours of tables
    assert raw_controls(own) == []
    assert "\x1b[2J" not in shown.getvalue()
    assert "[bold][/nothing]:bug:" in own


@pytest.mark.parametrize("shown", [printable, printable_of_model])
def test_printable_keeps_text_and_replaces_every_control(shown: Callable[[str], str]) -> None:
    every = "".join(map(chr, range(0x3000))) + "\ud800\udfff"
    assert raw_controls(shown(every)) == []
    assert shown("é\u4e2d\t\n \u0645\u0631 \U0001f680") == "é\u4e2d\t\n \u0645\u0631 \U0001f680"
