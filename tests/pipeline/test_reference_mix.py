"""The reference mix on a small imitation of its dataset: its files, caps and repeats, and a build of it."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.build import main
from tests.pipeline.conftest import REPOSITORY, texts, write_jsonl

pytestmark = pytest.mark.slow  # builds datasets

MANIFEST = REPOSITORY / "manifests/hrm_text_40b.yaml"
SMALL = ("no_robots", "gsm8k_train", "math_train", "omnimath", "webinstruct_verified")
WHOLE = ("principia_collection", "numinamath", "natural_reasoning", "amps_khan")
CLUSTERED = {
    "textbookreasoning": ("cot", "direct"),
    "openmathinstruct2": ("cot", "direct"),
    "acereason": ("cot",),
    "openthoughts2": ("cot",),
    "ampsmathematica": ("algebra", "calculus"),
    "dmmath": ("train-easy__algebra__linear_1d", "train-hard__calculus__differentiate"),
    "sudoku_extreme": ("train",),
    "tasksource": ("glue_mnli", "anli_a1"),
    "flan": ("cot_zsopt_data__cot_gsm8k", "niv2_zsopt_data__task1564", "t0_fsopt_data__trec"),
    "SYNTH": ("part_000", "part_001"),
}
EVALS = {
    "gsm8k_test": [{"question": "How many?", "answer": "Two and two.\n#### 4"}],
    "math_test": [{"problem": "What is $1+1$?", "level": "Level 1", "type": "Algebra", "solution": "\\boxed{2}"}],
    "drop_validation": [
        {
            "section_id": "s1",
            "query_id": "q1",
            "passage": "The team scored 3 and then 4 points.",
            "question": "How many points at first?",
            "answers_spans": {"spans": ["3", "3 points"], "types": ["number", "span"]},
        }
    ],
    "mmlu_test": [{"question": "Which is a bird?", "subject": "zoology", "choices": ["cat", "owl"], "answer": 1}],
    "arc_challenge_test": [
        {
            "id": "M1",
            "question": "Which is hot?",
            "choices": {"text": ["ice", "fire"], "label": ["A", "B"]},
            "answerKey": "B",
        }
    ],
    "hellaswag_validation": [
        {
            "ind": 1,
            "activity_label": "Walking",
            "ctx_a": "A man walks.",
            "ctx_b": "he",
            "ctx": "A man walks. he",
            "endings": ["stops.", "flies."],
            "source_id": "x",
            "split": "val",
            "split_type": "indomain",
            "label": "0",
        }
    ],
    "winogrande_validation": [
        {"sentence": "The cup broke as _ fell.", "option1": "it", "option2": "he", "answer": "1"}
    ],
    "boolq_validation": [{"question": "is water wet", "answer": True, "passage": "Water is wet."}],
}
"""Eval source to rows in the layout of its dataset on Hugging Face."""
RESPONSES = {
    "gsm8k_test": "Two and two.\n#### 4",
    "math_test": "\\boxed{2}",
    "drop_validation": "3\n3 points",
    "mmlu_test": "owl",
    "arc_challenge_test": "fire",
    "hellaswag_validation": "stops.",
    "winogrande_validation": "it",
    "boolq_validation": "true",
}
ROWS = {"flan/cot_zsopt_data__cot_gsm8k": 5100, "flan/t0_fsopt_data__trec": 5100, "SYNTH/part_000": 20_050}
"""File to rows, for files with more rows than their cap; the others have 6."""


@pytest.fixture(scope="module")
def imitation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of files with the names and columns that the reference mix expects."""
    root = tmp_path_factory.mktemp("cleaned")
    for number, name in enumerate((*SMALL, "Platypus/openbookqa", "Platypus/scibench", *WHOLE)):
        rows = [{"instruction": a, "response": b, "condition": "synth,cot"} for a, b in texts(100 + number, 6)]
        write_jsonl(root / f"data/{name}.jsonl", rows)
    files = [f"{folder}/{name}" for folder, names in CLUSTERED.items() for name in names]
    for number, name in enumerate(files):
        rows = [{"instruction": a, "response": b} for a, b in texts(200 + number, ROWS.get(name, 6))]
        table = pa.Table.from_pylist([{**row, "condition": "direct"} for row in rows])
        (root / "data_clustered" / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, root / f"data_clustered/{name}.parquet")
    for name, found in EVALS.items():
        pq.write_table(pa.Table.from_pylist(found), root / f"{name}.parquet")
    return root


def overrides(imitation: Path) -> list[str]:
    """Overrides that name the imitation's files instead of those of Hugging Face."""
    return [f"root={imitation}", *(f"sources.{name}.path={imitation / name}.parquet" for name in EVALS)]


def test_dry_run_shows_caps_repeats_and_rows_of_an_epoch(imitation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["tokenizer.file=null", "draw_margin=2"]
    assert main([str(MANIFEST), "--dry-run", "--verbose", *overrides(imitation), *more]) == 0
    shown = capsys.readouterr().out
    assert "no more than 2 times the rows sharded are curated" in " ".join(shown.split())
    table = shown[shown.index("an epoch draws") :]
    lines = {line.split()[0]: line.split()[1:] for line in reversed(table.splitlines()) if line.strip()}
    assert lines["flan"] == ["2", "2", "5,106", "5,000", "-", "5,006", "5,106"]
    assert lines["flan_cot"] == ["1", "1", "5,100", "-", "-", "5,100", "5,100"]
    assert lines["synth"] == ["2", "2", "20,056", "20,000", "-", "20,006", "20,056"]
    assert lines["openmathinstruct2"] == ["2", "2", "12", "2,000,000", "-", "12", "12"]
    assert lines["platypus"] == ["2", "2", "?", "-", "x", "10", "?", "?"]
    assert lines["all"][0] == "29"
    assert "skipped" not in {word for line in lines.values() for word in line}
    assert "condition: synth, cot" in shown


def test_imitation_is_built_with_its_caps_repeats_and_what_one_epoch_draws(imitation: Path, tmp_path: Path) -> None:
    small = [
        "tokenizer.file=null",
        "tokenizer.vocab_size=600",
        "tokenizer.sample_bytes=100kB",
        "near_dedup.enabled=false",
        "epochs=1",
    ]
    out = tmp_path / "out"
    assert main([str(MANIFEST), "--out", str(out), "--workers", "1", *overrides(imitation), *small]) == 0
    strata = {
        (stratum["source"], stratum["task"]): stratum
        for stratum in json.loads((out / "strata.json").read_text())["strata"]
    }
    capped = strata["flan", "t0_fsopt_data__trec"]
    assert (capped["max_per_epoch"], capped["repeat"], capped["end"] - capped["begin"]) == (5000, 1, 5000)
    assert strata["synth", "part_000"]["end"] - strata["synth", "part_000"]["begin"] == 20_000
    assert strata["flan_cot", "cot_zsopt_data__cot_gsm8k"]["max_per_epoch"] is None
    assert strata["platypus", "openbookqa"]["repeat"] == 10
    dataset = json.loads((out / "dataset.json").read_text())
    lost = {name: count["dropped"] for name, count in dataset["counts"].items() if count["kept"] != count["rows"]}
    assert lost == {"flan": {"not_drawn": 100}, "synth": {"not_drawn": 50}}
    assert dataset["epochs"] == 1

    for name, response in RESPONSES.items():
        (row,) = [json.loads(line) for line in (out / f"eval/{name}.jsonl").read_text().splitlines()]
        assert row["response"] == response, name


def test_run_without_the_published_tokenizer_says_where_it_belongs(
    imitation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, code in ((["--dry-run"], 1), (["--out", str(tmp_path / "out")], 2)):
        assert main([str(MANIFEST), *arguments, *overrides(imitation)]) == code
        place = MANIFEST.parent / "hrm_text_tokenizer.json"
        shown = " ".join("".join(capsys.readouterr()).split())
        assert f"tokenizer.file: {place} is missing: put the tokenizer.json of the model" in shown
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_relative_paths_start_at_root(imitation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(MANIFEST), "--dry-run", f"root={imitation / 'data'}"]) == 2
    assert f"there is no {imitation / 'data'}/data/no_robots.jsonl" in capsys.readouterr().err
