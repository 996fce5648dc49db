"""Guard: what a source or file may lose before a build stops, with the numbers and the key that lets it pass."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from corpus.config import ConfigError
from pipeline.build import main
from pipeline.manifest import load
from tests.pipeline.conftest import run_build, texts, write_jsonl, write_mix

pytestmark = pytest.mark.slow  # builds datasets


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mix of which one source has an empty response in two rows of three, and another equals a part of the first."""
    folder = tmp_path_factory.mktemp("guard")
    write_mix(folder, rows=120)
    pairs = [{"instruction": a, "response": b if row % 3 else ""} for row, (a, b) in enumerate(texts(9, 150))]
    empty = [{**pair, "response": ""} if row % 3 == 1 else pair for row, pair in enumerate(pairs)]
    write_jsonl(folder / "hollow.jsonl", empty)
    write_jsonl(folder / "few.jsonl", empty[:60])
    write_jsonl(folder / "copy.jsonl", [{"instruction": a, "response": b} for a, b in list(texts(1, 120))])
    return folder


def manifest(folder: Path, *names: str, version: str = "") -> Path:
    """The small mix and some of the odd sources."""
    content = yaml.safe_load((folder / "mix.yaml").read_text())
    content["sources"] += [{"name": f"{name}{version}", "path": f"{name}.jsonl"} for name in names]
    path = folder / f"mix-{'-'.join(names)}{version}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_build_stops_with_the_numbers_and_a_key_that_lets_it_pass(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(manifest(folder, "hollow")), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main(command) == 1
    errors = capsys.readouterr().err
    assert "hollow  empty_response      150      100  66.7%    50.0%" in errors
    assert not (tmp_path / "out/dataset.json").exists()
    key = errors.strip().splitlines()[-1].strip()
    assert key == "sources.hollow.guard.empty_response=0.67"
    assert main([*command, key]) == 0
    counts = json.loads((tmp_path / "out/dataset.json").read_text())["counts"]
    assert (counts["hollow"]["kept"], counts["hollow"]["dropped"]) == (50, {"empty_response": 100})


def test_key_works_for_a_source_with_a_dot_in_its_name(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(manifest(folder, "hollow", version=".v1")), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main(command) == 1
    key = capsys.readouterr().err.strip().splitlines()[-1].strip()
    assert main([*command, key]) == 0


def test_rules_on_samples_and_caps_are_guarded_too(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(manifest(folder)), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main([*command, "samples.max_tokens=40", "samples.overlong=drop"]) == 1
    assert "too_many_tokens" in capsys.readouterr().err
    assert not (tmp_path / "out/dataset.json").exists()


def test_small_sources_and_sources_contained_in_earlier_ones_pass(folder: Path, tmp_path: Path) -> None:
    counts = run_build(manifest(folder, "copy", "few"), tmp_path / "out")["counts"]
    assert counts["copy"]["dropped"] == {"exact_duplicate": 120}
    assert (counts["few"]["kept"], counts["few"]["dropped"]) == (20, {"empty_response": 40})


def test_exact_duplicates_are_guarded_where_the_manifest_says(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(manifest(folder, "copy")), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main([*command, "guard.rules.exact_duplicate=0.9"]) == 1
    assert "sources.copy.guard.exact_duplicate=1\n" in capsys.readouterr().err


def test_rule_that_does_not_exist_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"sources\.0\.guard"):
        load(folder / "mix.yaml", ["sources.first.guard.empty_answer=1"])
    with pytest.raises(ConfigError, match="'kept' is not a reason to drop a row"):
        load(folder / "mix.yaml", ["guard.rules.kept=1"])


def stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str], *sources: dict[str, Any], **mix: Any) -> str:
    """Build a mix of a good source and others, which must stop; return the message."""
    pairs = [{"instruction": a, "response": b} for a, b in texts(7, 20)]
    write_jsonl(tmp_path / "good.jsonl", pairs)
    content = {"name": "m", "sources": [{"name": "good", "path": "good.jsonl"}, *sources], **mix}
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump(content))
    assert main([str(tmp_path / "mix.yaml"), "--out", str(tmp_path / "out"), "--workers", "1"]) == 1
    assert not (tmp_path / "out/dataset.json").exists()
    return capsys.readouterr().err


def test_eval_source_without_an_item_stops_the_build_at_any_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1" + bytes(40) + b"PAR1")
    write_jsonl(tmp_path / "other.jsonl", [{"colour": "red", "size": n} for n in range(3)])
    (tmp_path / "header.csv").write_text("question,answer\n")
    names = ("broken.parquet", "other.jsonl", "header.csv")
    sources = [{"name": name.split(".")[0], "path": name, "role": "eval"} for name in names]
    message = stopped(tmp_path, capsys, *sources)
    assert "source broken (eval): no item in 1 file of 48 bytes" in message
    assert "other.jsonl: read, " in message
    assert "3 rows; 3 missing_field (line 1: " in message
    assert "header.csv: empty, 16 bytes, 0 rows" in message
    assert message.strip().endswith("'guard.allow_empty=[broken,other,header]'")


def test_file_without_a_pair_stops_the_build_unless_the_manifest_allows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(tmp_path / "parts/a.jsonl", [{"instruction": a, "response": b} for a, b in texts(8, 500)])
    write_jsonl(tmp_path / "parts/b.jsonl", [{"instruction": "Say nothing.", "response": ""}] * 2)
    (tmp_path / "parts/c.parquet").write_bytes(b"PAR1" + bytes(40) + b"PAR1")
    (tmp_path / "parts/d.jsonl").write_text("")
    source = {"name": "parts", "path": "parts"}
    message = stopped(tmp_path, capsys, source)
    assert "source parts (train): 2 of 4 files" in message
    assert "b.jsonl: read, " in message
    assert "2 empty_response" in message
    assert "c.parquet: unreadable" in message
    allowed = ["sources.parts.guard={empty_response: 1, unreadable: 0.25}", "tokenizer.vocab_size=300"]
    command = [str(tmp_path / "mix.yaml"), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main([*command, *allowed]) == 0


def test_files_of_which_most_are_cut_off_stop_the_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"instruction": a, "response": b} for a, b in texts(8, 30)]
    (tmp_path / "list.json").write_text(json.dumps(rows)[:-40])
    message = stopped(tmp_path, capsys, {"name": "cut", "path": "list.json"})
    assert "cut     truncated      1        1  100.0%    50.0%" in message
    assert "sources.cut.guard.truncated=1" in message


def test_loss_of_one_file_is_not_diluted_by_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [{"instruction": a, "response": b} for a, b in texts(8, 900)]
    write_jsonl(tmp_path / "parts/a.jsonl", pairs[:700])
    write_jsonl(tmp_path / "parts/b.jsonl", [{**pair, "response": ""} for pair in pairs[700:890]] + pairs[890:])
    message = stopped(tmp_path, capsys, {"name": "parts", "path": "parts"})
    assert "parts, b.jsonl  empty_response      200      190  95.0%    50.0%" in message
    assert "sources.parts.guard.empty_response=0.95" in message


def test_context_that_no_pair_uses_stops_the_build_until_it_is_mapped_or_ignored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"ask": a, "say": b, "background": "It rained." if n % 2 else " ", "topic": "rain"}
        for n, (a, b) in enumerate(texts(8, 20))
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    source = {"name": "rows", "path": "rows.jsonl", "map": {"instruction": "{ask}", "response": "{say}"}}
    message = stopped(tmp_path, capsys, source)
    assert "source rows (train), 20 rows with a pair\n    background: 50 %, as 'It rained.'" in message
    assert "topic" not in message
    key = message.strip().splitlines()[-1].strip().strip("'")
    assert key == "sources.rows.ignore=[background]"
    command = [str(tmp_path / "mix.yaml"), "--workers", "1", "tokenizer.vocab_size=300"]
    assert main([*command, "--out", str(tmp_path / "out"), key]) == 0
    shown = capsys.readouterr().out
    assert "background: 50 %, as 'It rained.'" in shown
    assert "topic: 100 %, as 'rain'" in shown
    lines = pl.read_parquet(tmp_path / "out/ledger/columns.parquet").rows(named=True)
    assert [(line["column"], line["unused"], line["rows"]) for line in lines] == [
        ("topic", 20, 20),
        ("background", 10, 20),
    ]
    template = "sources.rows.map.instruction='{background?} {ask}'"
    assert main([*command, "--out", str(tmp_path / "mapped"), template]) == 0


def test_empty_source_that_the_manifest_allows_passes_and_other_names_are_refused(folder: Path) -> None:
    assert load(folder / "mix.yaml", ["guard.allow_empty=[first]"]).guard.allow_empty == ("first",)
    with pytest.raises(ConfigError, match=r"there is no source 'frist'.*'first'"):
        load(folder / "mix.yaml", ["guard.allow_empty=[frist]"])
