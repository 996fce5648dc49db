"""Extension walk: a quality rule from outside the package, one file beside the manifest, in a real build."""

import json
from pathlib import Path

import polars as pl
import pytest
import yaml

from corpus.config import ConfigError
from pipeline.build import main
from pipeline.manifest import load
from tests.pipeline.conftest import texts, write_jsonl

RULE = '''
from typing import ClassVar

import polars as pl
from pydantic import Field

from pipeline.rules.rule import Rule, Verdict


class Shouting(Rule):
    """Drop responses in capitals."""

    outcome: ClassVar[str] = "shouting"

    max_share: float = Field(default=0.5, ge=0.0, le=1.0)

    def judge(self, frame: pl.DataFrame) -> Verdict:
        letters = frame["response"].str.count_matches(r"\\p{L}")
        share = frame["response"].str.count_matches(r"\\p{Lu}") / letters.clip(1)
        mask = share > self.max_share
        scores = share.filter(mask).to_numpy()
        return Verdict.of(mask, [f"{score:.0%} of the letters are capitals" for score in scores], scores)
'''
LOUD = 30


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A mix with a rule of its own; 30 of its 120 responses are in capitals."""
    rows = [{"instruction": a, "response": b} for a, b in texts(1, 90)]
    rows += [{"instruction": a, "response": "STOP " + b.upper()} for a, b in texts(2, LOUD)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    (tmp_path / "my_rules.py").write_text(RULE)
    mix = {
        "name": "small",
        "sources": [{"name": "rows", "path": "rows.jsonl", "guard": {"shouting": 0.5}}],
        "rules": {"my_rules:Shouting": {"max_share": 0.6}},
        "near_dedup": {"enabled": False},
        "tokenizer": {"vocab_size": 600, "sample_bytes": "100kB"},
    }
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump(mix))
    return tmp_path / "mix.yaml"


@pytest.mark.slow  # runs a dry run, a build with spawned workers and a verification
def test_outcome_of_a_rule_beside_the_manifest_reaches_ledger_summary_and_report(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(manifest), "--dry-run"]) == 0
    assert "my_rules:Shouting" in capsys.readouterr().out

    out = tmp_path / "out"
    assert main([str(manifest), "--out", str(out), "--workers", "2"]) == 0
    dataset = json.loads((out / "dataset.json").read_text())
    assert dataset["counts"]["rows"]["dropped"] == {"shouting": LOUD}
    ledger = pl.read_parquet(out / "ledger/rows-*.parquet").filter(pl.col("outcome") == "shouting")
    assert len(ledger) == LOUD
    assert ledger["stage"].unique().to_list() == ["rules"]
    assert ledger["score"].min() > 0.6
    summary = capsys.readouterr().out
    assert "shouting" in summary
    page = (out / "report/index.html").read_text()
    assert "shouting" in page
    assert "of the letters are capitals" in page
    lock = yaml.safe_load((out / "mix.lock.yaml").read_text())["manifest"]["rules"]["my_rules:Shouting"]
    assert lock["max_share"] == 0.6

    from pipeline.verify import main as verify

    assert verify([str(out)]) == 0


@pytest.mark.slow  # runs two builds
def test_a_changed_rule_beside_the_manifest_builds_another_dataset(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(manifest), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main(command) == 0
    assert main(command) == 0
    assert "nothing to do" in capsys.readouterr().out
    (tmp_path / "my_rules.py").write_text(RULE.replace("share > self", "share > 9 + self"))
    assert main(command) == 0
    assert json.loads((tmp_path / "out/dataset.json").read_text())["counts"]["rows"]["dropped"] == {}


@pytest.mark.parametrize(
    ("settings", "source", "message"),
    [
        ({"my_rules:Shouting": {"max_share": 2}}, RULE, r"rules\.my_rules:Shouting\.max_share"),
        ({"my_rules:Whispering": {}}, RULE, "does not define 'Whispering'"),
        ({"my_rules:Field": {}}, RULE, "expected a subclass of pipeline.rules.rule.Rule"),
        ({"my_rules:Shouting": {}}, RULE.replace('"shouting"', '"echo"'), "expected an `outcome` that no other rule"),
        ({"my_rules:Shouting": {}}, RULE.replace('"shouting"', '"kept"'), "expected an `outcome` that no other rule"),
        ({"my_rules:Shouting": {"sha256": "0" * 64}}, RULE, r"rules\.my_rules:Shouting\.sha256: Input should be"),
        ({"shouting": {}}, RULE, "unknown key rules.shouting"),
    ],
)
def test_a_rule_that_cannot_be_used_is_an_error_of_the_manifest(
    manifest: Path, settings: dict[str, object], source: str, message: str
) -> None:
    content = yaml.safe_load(manifest.read_text())
    content["sources"][0].pop("guard")
    manifest.write_text(yaml.safe_dump({**content, "rules": settings}))
    (manifest.parent / "my_rules.py").write_text(source)
    with pytest.raises(ConfigError, match=message):
        load(manifest)
