"""Near duplicates of a table, compared with plain Python."""

import random
import re
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.pairs import read_pairs
from corpus.record import Pair
from pipeline.dedup.near.language import INTERCHANGEABLE
from pipeline.dedup.near.spec import NearDedupSpec, proposal_probability
from pipeline.dedup.near.table import near_dedup
from pipeline.ingest.inputs import discover_inputs
from pipeline.manifest import load

MANIFEST = Path(__file__).parents[4] / "manifests/mix.yaml"
CERTAIN = NearDedupSpec(bands=256, rows=1, shingle=2)
"""Parameters that propose every pair with any similarity."""


def shingles(pair: tuple[str, str], size: int) -> set[tuple[str, ...]]:
    found = set()
    for field, text in zip("ir", pair, strict=True):
        words = text.split()
        width = min(size, len(words))
        found |= {(field, *words[i : i + width]) for i in range(len(words) - width + 1)}
    return found


def jaccard(a: tuple[str, str], b: tuple[str, str], size: int) -> float:
    one, other = shingles(a, size), shingles(b, size)
    return len(one & other) / len(one | other)


def table(pairs: list[tuple[str, str]]) -> pl.DataFrame:
    return pl.DataFrame(pairs, {"instruction": pl.String, "response": pl.String}, orient="row")


texts = st.lists(st.sampled_from(["lamp", "river", "stone", "and"]), min_size=13, max_size=18).map(" ".join)
pairs = st.lists(st.tuples(texts, texts), min_size=2, max_size=30)


@given(pairs, st.sampled_from([0.5, 0.7, 0.9]))
@settings(deadline=None)
def test_scores_are_exact_and_every_twin_is_selected(rows: list[tuple[str, str]], threshold: float) -> None:
    found = near_dedup(table(rows), CERTAIN.model_copy(update={"threshold": threshold}))
    lost = set(found.lost.tolist())
    assert len(lost) == len(found.lost)
    for row, twin, score in zip(found.lost.tolist(), found.twin.tolist(), found.score.tolist(), strict=True):
        assert twin not in lost
        assert score == pytest.approx(jaccard(rows[row], rows[twin], 2))
        assert score >= threshold
        assert (len(rows[twin][1]), -twin) > (len(rows[row][1]), -row)


@given(pairs)
@settings(deadline=None)
def test_equal_pairs_are_found_at_any_threshold(rows: list[tuple[str, str]]) -> None:
    for threshold in (0.6, 1.0):
        found = near_dedup(table([*rows, *rows]), CERTAIN.model_copy(update={"threshold": threshold}))
        assert len(found.selected) <= len(set(rows))


@given(pairs)
@settings(deadline=None, max_examples=30)
def test_another_threshold_gives_what_a_new_run_gives(rows: list[tuple[str, str]]) -> None:
    found = near_dedup(table(rows), CERTAIN.model_copy(update={"threshold": 0.5}))
    for threshold in (0.6, 0.95):
        again, fresh = found.at(threshold), near_dedup(table(rows), found.at(threshold).spec)
        assert again.lost.tolist() == fresh.lost.tolist()
        assert again.twin.tolist() == fresh.twin.tolist()


@given(pairs, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=30)
def test_what_is_dropped_does_not_depend_on_the_order_of_rows_of_different_length(
    rows: list[tuple[str, str]], draw: random.Random
) -> None:
    different = list({len(pair[1]): pair for pair in rows}.values())
    shuffled = draw.sample(different, len(different))
    kept = [sorted(near_dedup(table(order), CERTAIN).selected.rows()) for order in (different, shuffled)]
    assert kept[0] == kept[1]


def test_proposals_follow_the_s_curve() -> None:
    """Pairs of known similarity share a band with probability 1 - (1 - s^rows)^bands."""
    draw = random.Random(0)
    spec = NearDedupSpec(shingle=1, bands=6, rows=4, threshold=0.5)
    groups = [group.split() for group in INTERCHANGEABLE.split(";") if len(group.split()) > 1]
    rows, ends = [], []
    for number in range(600):
        chosen = draw.sample(groups, 105)
        common = 75 if number % 2 else 90  # of 105 and 100 words in all: similarities of 0.71 and 0.9
        differing = chosen[common : common + (15 if number % 2 else 5)]
        shared = [group[0] for group in chosen[:common]]
        rows += [(" ".join(shared + [group[place] for group in differing]), "yes") for place in (0, 1)]
        ends.append(proposal_probability((common + 1) / (common + 1 + 2 * len(differing)), spec.bands, spec.rows))
    found = near_dedup(table(rows), spec)
    together = set(zip(found.lost.tolist(), found.twin.tolist(), strict=True))
    hits = np.array([(i, i + 1) in together or (i + 1, i) in together for i in range(0, len(rows), 2)])
    for part in (0, 1):
        expected = ends[part]
        spread = 4 * (expected * (1 - expected) / 300) ** 0.5 + 0.01
        assert hits[part::2].mean() == pytest.approx(expected, abs=spread)


def test_records_that_share_only_a_template_are_not_duplicates() -> None:
    task = "In this task you are given a short text. Say which feeling it shows, and give no reasons for it. " * 3
    moods = ["lonely", "tired", "happy", "cold", "warm", "angry"]
    things = ["my house is so", "we are all quite", "they often look", "people here seem", "it makes them"]
    rows = [(f"{task}\n{thing} {mood}", "joy") for mood in moods for thing in things]
    assert len(near_dedup(table(rows)).dropped) == 0
    assert len(near_dedup(table([*rows, (f"{task}\n  {things[0]} {moods[0]}!".upper(), "Joy")])).dropped) == 1


def test_records_with_the_same_instruction_and_different_answers_are_kept() -> None:
    question = "Describe in your own words what the people of the town did when the water in the river rose. " * 2
    answers = ["They left their houses.", "They built a wall of sand.", "Yes.", "No."]
    assert len(near_dedup(table([(question, answer) for answer in answers])).dropped) == 0


def test_the_embedded_mix_loses_only_rows_with_the_same_words() -> None:
    mix = load(MANIFEST)
    rows = []
    for _, spec, file in discover_inputs(mix, MANIFEST.parent):
        if spec.role == "train":
            found = islice(read_pairs(spec, file), 600)
            rows += [(pair.instruction, pair.response) for pair in found if isinstance(pair, Pair)]
    found = near_dedup(table(rows))

    def words(row: int) -> list[str]:
        return re.findall(r"\w+", " ".join(rows[row]).lower())

    assert len(found.lost) > 0
    assert [words(row) for row in found.lost.tolist()] == [words(twin) for twin in found.twin.tolist()]


def test_a_result_has_selected_dropped_and_least_similar_rows() -> None:
    text = "The old lamp by the river was lit every evening, and the boats that came home late could see it from afar. "
    rows = [
        (text * 2, "Here is a summary of what was said above about the lamp, the river and the boats."),
        (text * 2 + "Thank you.", "Here is a summary of what was said above about the lamp, the river and the boats."),
        ("What is it about?", "A lamp."),
    ]
    found = near_dedup(table(rows).with_columns(extra=pl.Series([1, 2, 3])))
    assert found.selected["extra"].to_list() == [1, 3]
    assert found.dropped.select("extra", "twin").rows() == [(2, 0)]
    least = found.least_similar()
    assert least.select("row", "twin", "instruction", "twin_instruction").rows() == [(1, 0, rows[1][0], rows[0][0])]
    assert least["score"].to_list() == found.dropped["score"].to_list()
    with pytest.raises(ValueError, match="column response has 1 nulls"):
        near_dedup(pl.DataFrame({"instruction": ["a"], "response": pl.Series([None], dtype=pl.String)}))
