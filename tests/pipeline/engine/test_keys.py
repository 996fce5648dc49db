"""Keys of steps depend on the sources that a step runs, and on no others."""

import shutil
from pathlib import Path

import pytest

from pipeline.engine.keys import SourceTree, digest_of, library_versions, source_tree
from pipeline.ingest.spec import CleanSpec

ROOT = Path(__file__).parents[3]
INGEST, ASSEMBLE, BUILD = "pipeline.ingest.step", "pipeline.dataset.assemble", "all"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the packages' sources."""
    for package in ("corpus", "pipeline"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def versions(root: Path) -> dict[str, str]:
    tree = SourceTree(root)
    return {INGEST: tree.version(INGEST), ASSEMBLE: tree.version(ASSEMBLE), BUILD: tree.whole()}


@pytest.mark.parametrize(
    ("path", "changed"),
    [
        ("pipeline/report/page.py", {ASSEMBLE, BUILD}),
        ("pipeline/report/style.css", {ASSEMBLE, BUILD}),
        ("pipeline/engine/progress.py", {BUILD}),
        ("pipeline/stages.py", {BUILD}),
        ("pipeline/README.md", set()),
        ("corpus/adapters/chat.py", {INGEST, ASSEMBLE, BUILD}),
        ("corpus/adapters/of_a_user.py", {INGEST, ASSEMBLE, BUILD}),
        ("corpus/formats/parquet.py", {INGEST, ASSEMBLE, BUILD}),
        ("corpus/generators/sudoku.py", {INGEST, ASSEMBLE, BUILD}),
        ("pipeline/rules/echo.py", {INGEST, ASSEMBLE, BUILD}),
        ("pipeline/text/folding.py", {INGEST, ASSEMBLE, BUILD}),
    ],
)
def test_changed_file_changes_the_keys_of_the_steps_that_run_it(copy: Path, path: str, changed: set[str]) -> None:
    before = versions(copy)
    with (copy / path).open("a") as file:
        file.write("\n# changed\n")
    after = versions(copy)
    assert {name for name in before if before[name] != after[name]} == changed


def test_place_of_the_sources_changes_no_key(copy: Path) -> None:
    assert versions(copy) == versions(ROOT)


def test_dependencies_include_modules_that_are_imported_by_name_or_inside_functions() -> None:
    modules, libraries = source_tree().dependencies(INGEST)
    for package in ("corpus/adapters", "corpus/formats", "corpus/generators", "pipeline/rules"):
        names = {
            path.with_suffix("").relative_to(ROOT).as_posix().replace("/", ".")
            for path in (ROOT / package).glob("*.py")
        }
        assert {name.removesuffix(".__init__") for name in names} <= modules
    assert {"ftfy", "numpy", "polars", "py3langid", "pyarrow", "xxhash"} <= libraries
    assert "gigatoken" not in libraries
    assert "gigatoken" in source_tree().dependencies("pipeline.shards.encode")[1]


def test_version_of_a_library_changes_the_keys_of_the_steps_that_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = versions(ROOT)
    others = {**library_versions(), "gigatoken": "0.0"}
    monkeypatch.setattr("pipeline.engine.keys.library_versions", lambda: others)
    after = versions(ROOT)
    assert {name for name in before if before[name] != after[name]} == {ASSEMBLE, BUILD}


def test_digest_depends_on_every_field_of_a_specification() -> None:
    assert digest_of(["a", CleanSpec()]) == digest_of(("a", CleanSpec()))
    assert digest_of(CleanSpec()) != digest_of(CleanSpec(remove_think=False))
