"""The manifest's `near_dedup`."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.build import main
from pipeline.dedup.near.spec import NearDedupSpec, proposal_probability


def test_dry_run_prints_the_s_curve_of_the_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.jsonl").write_text('{"instruction": "Say something.", "response": "Something."}\n')
    (tmp_path / "mix.yaml").write_text(
        "name: curve\nsources: [{name: a, path: rows.jsonl}]\nnear_dedup: {threshold: 0.72, bands: 20, rows: 5}\n"
    )
    assert main([str(tmp_path / "mix.yaml"), "--dry-run", "--verbose"]) == 0
    shown = capsys.readouterr().out
    assert "20 bands x 5 rows" in shown
    for similarity in (0.5, 0.72, 0.9):
        assert f"{similarity:.2f} {1 - (1 - similarity**5) ** 20:.1%}" in shown
    assert main([str(tmp_path / "mix.yaml"), "near_dedup.enabled=false", "--dry-run", "--verbose"]) == 0
    assert "near duplicates" not in capsys.readouterr().out


def test_more_bands_propose_more_and_more_rows_fewer() -> None:
    usual = proposal_probability(0.8, 14, 8)
    assert proposal_probability(0.8, 14, 9) < usual < proposal_probability(0.8, 15, 8)
    assert (proposal_probability(0.0, 14, 8), proposal_probability(1.0, 14, 8)) == (0.0, 1.0)


def test_signatures_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValidationError, match="bands x rows is 6,400; expected at most 1,024"):
        NearDedupSpec(bands=100, rows=64)
    with pytest.raises(ValidationError, match="threshold"):
        NearDedupSpec(threshold=1.2)
