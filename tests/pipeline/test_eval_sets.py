"""Public evaluation sets are found by name, in a folder of downloaded files and on Hugging Face."""

import json
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.config import ConfigError
from corpus.eval_sets import EVAL_SETS
from corpus.pairs import read_pairs
from corpus.record import Pair
from corpus.source import FieldMap
from pipeline.ingest.inputs import discover_inputs
from pipeline.manifest import Mix, load
from trainer.benchmarks.catalog import BUILT_IN

TRAIN = "{name: train, generator: sorting, rows: 5}"
QUESTION = {"question": "How many?", "answer": "Two and two.\n#### 4"}
PASSAGE = {"passage": "They scored 3.", "question": "How many?", "answers_spans": {"spans": ["3"], "types": ["number"]}}


def mix(folder: Path, *sources: str) -> Mix:
    lines = "".join(f"  - {source}\n" for source in (TRAIN, *sources))
    (folder / "mix.yaml").write_text(f"name: sets\nsources:\n{lines}")
    return load(folder / "mix.yaml")


def pairs(found: Mix, folder: Path) -> list[tuple[str, str, str]]:
    return [
        (spec.name, pair.instruction, pair.response)
        for _, spec, file in discover_inputs(found, folder)
        if spec.role == "eval"
        for pair in read_pairs(spec, file)
        if isinstance(pair, Pair)
    ]


def test_every_task_of_the_benchmark_has_a_set_of_its_name() -> None:
    assert sorted(EVAL_SETS) == sorted(BUILT_IN)


@pytest.mark.parametrize("place", ["gsm8k/test.jsonl", "gsm8k/main/test-00000-of-00001.parquet", "x/y/gsm8k.jsonl"])
def test_a_set_is_read_from_a_folder_in_the_layouts_of_its_repositories(tmp_path: Path, place: str) -> None:
    file = tmp_path / "sets [1]" / place
    file.parent.mkdir(parents=True)
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([QUESTION]), file)
    else:
        file.write_text(json.dumps(QUESTION))
    found = mix(tmp_path, "{name: held, role: eval, set: gsm8k, path: 'sets [1]'}")
    assert pairs(found, tmp_path) == [("held", QUESTION["question"], QUESTION["answer"])]
    assert found.sources[1].set is None  # the lock file states the files


def test_a_set_is_read_from_one_file_and_from_a_url_with_the_columns_it_needs(tmp_path: Path, bucket: str) -> None:
    pq.write_table(pa.Table.from_pylist([PASSAGE]), tmp_path / "mine.parquet")
    filesystem, root = fsspec.core.url_to_fs(bucket)
    filesystem.put(str(tmp_path / "mine.parquet"), f"{root}/sets/drop/data/validation-0.parquet")
    found = mix(
        tmp_path,
        "{name: file, role: eval, set: drop, path: mine.parquet}",
        f"{{name: bucket, role: eval, set: drop, path: '{bucket}/sets'}}",
    )
    assert pairs(found, tmp_path) == [(name, "They scored 3.\n\nHow many?", "3") for name in ("file", "bucket")]


def test_a_set_without_a_path_is_that_of_hugging_face(tmp_path: Path) -> None:
    found = mix(tmp_path, "{name: held, role: eval, set: hellaswag, exclude: ['*-00001-*']}").sources[1]
    assert found.path == ["hf://datasets/Rowan/hellaswag/data/validation-*.parquet"]
    assert (found.ignore, found.exclude) == (("ctx_a", "ctx_b"), ("*-00001-*",))
    stated = mix(tmp_path, "{name: held, role: eval, set: drop, map: {instruction: '{question}'}}").sources[1]
    assert stated.map == FieldMap(instruction="{question}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "{name: held, role: eval, set: gsm9k}",
            "unknown set 'gsm9k'; expected one of aime, aqua, arc_c, bbh, boolq, ",
        ),
        ("{name: held, set: gsm8k}", "names test questions, which are not for training; state role: eval too"),
        ("{name: held, role: eval, set: gsm8k, generator: sorting}", "expected path: FOLDER of the set's files"),
        ("{name: held, role: eval, set: gsm8k, path: [a, b]}", "expected path: FOLDER of the set's files"),
        ("{name: held, role: eval, set: mawps}", "sources.held: the set 'mawps' has no copy on Hugging Face"),
        ("{name: held, role: eval, set: gsm8k, path: none}", "no file of the set 'gsm8k' below"),
    ],
)
def test_a_set_that_cannot_be_found_is_refused_with_what_is_expected(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        mix(tmp_path, source)
    assert message in str(error.value)
    assert "\n" not in str(error.value).strip() or "sources" in str(error.value)
