"""Guards: a rule that takes too much of a source stops the build, with the numbers and the key that lets it pass."""

import json
from pathlib import Path

import pytest
import yaml

from corpus.config import ConfigError
from pipeline.build import main
from pipeline.manifest import load
from tests.pipeline.conftest import run_build, texts, write_jsonl, write_mix


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
