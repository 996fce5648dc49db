"""The library: stages on frames, and a build from Python."""

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import pipeline
from tests.pipeline.conftest import REPOSITORY

MODULES = ["pipeline.library", "pipeline.build", "pipeline.dedup.near.table"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize("first", ["import pipeline", "import pipeline.build", "from pipeline import build"])
def test_function_that_has_the_name_of_a_module_is_callable_whichever_way_it_is_imported(first: str) -> None:
    code = f"{first}\nimport pipeline\nassert callable(pipeline.build) and pipeline.build.main\n"
    code += "import pipeline.decontaminate.spec\nassert callable(pipeline.decontaminate)"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_import_of_the_package_needs_no_polars() -> None:
    code = "import pipeline, pipeline.build, sys; assert not {'polars', 'pyarrow', 'numba'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'unbuild'"):
        _ = pipeline.unbuild


def test_frames_lose_no_row_and_keep_other_columns() -> None:
    frame = pl.DataFrame({"instruction": ["a b", "", "c"], "response": ["x", "y", "<think>z"], "number": [1, 2, 3]})
    result = pipeline.clean(frame)
    assert sorted([*result.kept["number"], *result.dropped["number"]]) == [1, 2, 3]
    assert result.counts == {"empty_instruction": 1, "unclosed_think": 1}
    assert result.kept.columns == frame.columns


def test_columns_that_are_missing_or_null_are_refused() -> None:
    with pytest.raises(ValueError, match="column response is None, expected String"):
        pipeline.apply_rules(pl.DataFrame({"instruction": ["a"]}))
    with pytest.raises(ValueError, match="column response has 1 nulls"):
        pipeline.clean(
            pl.DataFrame({"instruction": ["a"], "response": [None]}, schema_overrides={"response": pl.String})
        )


@pytest.mark.slow
def test_folder_and_file_of_a_manifest_may_be_paths(tmp_path: Path) -> None:
    rows = "".join(f'{{"instruction": "Spell {n}.", "response": "{n**9}"}}\n' for n in range(60))
    (tmp_path / "rows.jsonl").write_text(rows)
    (tmp_path / "mix.yaml").write_text(
        "{name: s, sources: [{name: r, path: rows.jsonl}], tokenizer: {vocab_size: 300}}"
    )
    built = pipeline.build(tmp_path / "mix.yaml", out=tmp_path / "out", workers=1, memory="2GB", overrides=["seed=3"])
    assert (built.is_new, built.dataset.samples, built.faults) == (True, 60, ())
    again = pipeline.build(str(tmp_path / "mix.yaml"), out=str(tmp_path / "out"), workers=1, overrides=["seed=3"])
    assert (again.is_new, again.dataset) == (False, built.dataset)
