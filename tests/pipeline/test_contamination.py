"""The contamination test: shares of words in shared n-grams, and Z against what chance would give."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.dataset import open_dataset
from pipeline.contamination import main, read_items
from pipeline.decontaminate.word_hashes import words_of
from pipeline.report.contamination_effect import contamination, significant, subset_test
from tests.pipeline.conftest import run_build, write_jsonl

pytestmark = pytest.mark.slow  # builds datasets

WORDS = st.lists(st.sampled_from(["ash", "birch", "cedar", "elm", "fir", "hazel"]), max_size=30)


def shares(items: list[str], train: list[str], n: int) -> list[float]:
    pairs = pl.Series(train, dtype=pl.String)
    half = len(train) // 2
    batches = iter([(part, pl.Series([""] * len(part), dtype=pl.String)) for part in (pairs[:half], pairs[half:])])
    return contamination(words_of(pl.Series(items, dtype=pl.String)), batches, n).tolist()


@settings(deadline=None)
@given(items=st.lists(WORDS, min_size=1, max_size=6), train=st.lists(WORDS, max_size=6), n=st.integers(1, 5))
def test_contamination_is_the_share_of_words_in_shared_n_grams(
    items: list[list[str]], train: list[list[str]], n: int
) -> None:
    seen = {tuple(text[at : at + n]) for text in train for at in range(len(text) - n + 1)}
    expected = []
    for item in items:
        covered = {at + k for at in range(len(item) - n + 1) if tuple(item[at : at + n]) in seen for k in range(n)}
        expected.append(len(covered) / max(len(item), 1))
    assert shares([" ".join(item) for item in items], [" ".join(text) for text in train], n) == pytest.approx(expected)


def test_case_and_punctuation_do_not_hide_contamination() -> None:
    text = "One two three four, five six seven: eight nine ten eleven twelve thirteen."
    assert shares([text], [text.upper().replace(",", "").replace(":", " ;")], 13) == [1.0]


def test_z_of_subsets_drawn_by_chance_has_mean_0_and_deviation_1() -> None:
    draw = np.random.default_rng(1)
    scores = draw.gamma(2.0, size=60)
    found = []
    for _ in range(4000):
        contaminated = np.zeros(60)
        contaminated[draw.permutation(60)[:24]] = 0.5
        found.append([row.z for row in subset_test(contaminated, scores)][:2])
    z = np.array(found)
    assert np.abs(z.mean(axis=0)).max() < 0.05
    assert np.abs(z.std(axis=0) - 1).max() < 0.04


def test_an_effect_counts_only_if_it_shows_in_all_four_subsets() -> None:
    contaminated = np.repeat([0.0, 0.5, 1.0], 100)
    better = np.repeat([0.2, 0.5, 0.9], 100) + np.tile([0.01, -0.01], 150)
    assert significant(subset_test(contaminated, better))
    not_in_the_first = np.repeat([0.5, 0.3, 0.7], 100) + np.tile([0.01, -0.01], 150)
    rows = subset_test(contaminated, not_in_the_first)
    assert [abs(row.z or 0) > 2 for row in rows] == [False, False, True, True]
    assert not significant(rows)


def test_a_subset_of_none_or_of_all_has_no_z() -> None:
    rows = subset_test(np.zeros(10), np.arange(10.0))
    assert [(row.items, row.z) for row in rows] == [(10, None), (0, None), (10, None), (0, None)]
    assert not significant(rows)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset that holds half of its eval items, because its mix does not decontaminate."""
    folder = tmp_path_factory.mktemp("contamination")
    sentence = (
        "the {} boats of harbour {} went out before dawn and came back with {} baskets of fish for everybody there"
    )
    items = [{"question": sentence.format(n + 3, 7 * n, n * n + 1), "answer": f"{n} boats"} for n in range(40)]
    write_jsonl(folder / "held.jsonl", items)
    write_jsonl(
        folder / "train.jsonl", items[:20] + [{"question": f"Count to {n}.", "answer": "1 2"} for n in range(30)]
    )
    (folder / "mix.yaml").write_text(
        "name: leaky\nsources:\n  - {name: train, path: train.jsonl}\n  - {name: held, path: held.jsonl, role: eval}\n"
        "tokenizer: {vocab_size: 400, sample_bytes: 100kB}\ndecontaminate: {enabled: false}\n"
    )
    run_build(folder / "mix.yaml", folder / "out")
    return folder / "out"


def test_the_command_shows_that_items_seen_in_training_score_higher(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [json.loads(line) for line in (out / "eval/held.jsonl").read_text().splitlines()]
    rows = [{"item": record["row_id"], "score": float(number < 20)} for number, record in enumerate(records)]
    write_jsonl(out.parent / "scores.jsonl", rows)
    assert main([str(out), "--eval", "held", "--scores", str(out.parent / "scores.jsonl"), "--n", "13"]) == 0
    shown = capsys.readouterr().out
    assert "n = 13, 40 items, mean score 0.5000" in shown
    assert "\nsignificant: |Z| > 2 in all four" in shown


def test_the_command_takes_files_and_csv(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = out.parent / "scores.csv"
    scores.write_text("item,score\n" + "".join(f"{n},{n % 2}\n" for n in range(40)))
    assert main([str(out), "--eval", str(out.parent / "held.jsonl"), "--scores", str(scores)]) == 0
    assert capsys.readouterr().out.count("not significant") == 2


def test_scores_of_unknown_items_are_an_error_that_shows_both_names(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = out.parent / "wrong.csv"
    scores.write_text("item,score\nq-1,0.5\n")
    assert main([str(out), "--eval", str(out.parent / "held.jsonl"), "--scores", str(scores)]) == 2
    assert "for example 'q-1'; its items are named like '0'" in capsys.readouterr().err


def test_several_eval_files_and_sizes_are_given_by_repeated_options(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = out.parent / "both.csv"
    scores.write_text("item,score\n" + "".join(f"held.jsonl:{n},{n % 2}\n" for n in range(40)))
    arguments = ["--eval", str(out.parent / "held.jsonl"), "--eval", "held", "--scores", str(scores)]
    assert main([str(out), *arguments, "--n", "5", "--n", "9"]) == 0
    shown = capsys.readouterr().out
    assert "n = 5," in shown
    assert "n = 9," in shown
    assert main([str(out), *arguments, "--n", "0"]) == 2


def test_every_question_of_a_row_is_an_item(out: Path) -> None:
    questions = [{"question": f"Who {n}?", "answers": [{"text": f"Ann {n}"}]} for n in range(3)]
    write_jsonl(out.parent / "nested.jsonl", [{"context": "Ann won.", "qas": questions}, {"context": "B.", "qas": []}])
    items = read_items(open_dataset(str(out)), [str(out.parent / "nested.jsonl")])
    assert items == {("0" if n == 0 else f"0.{n}"): f"Ann won.\n\nWho {n}?\nAnn {n}" for n in range(3)}
