"""Quality rules: what each drops, what it must not drop, and how they work together."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.manifest import Mix
from pipeline.report.preview import preview
from pipeline.rules.apply import apply_rules
from pipeline.rules.echo import Echo
from pipeline.rules.mojibake import repair
from pipeline.rules.repetition import repeated_share
from pipeline.rules.spec import RULES, RulesSpec


def apply(pairs: list[tuple[str, str]], spec: RulesSpec) -> pl.DataFrame:
    frame = pl.DataFrame(
        {
            "instruction": [a for a, _ in pairs],
            "response": [b for _, b in pairs],
            "outcome": [None] * len(pairs),
            "stage": ["clean"] * len(pairs),
            "detail": [None] * len(pairs),
            "score": [None] * len(pairs),
        },
        schema_overrides=dict.fromkeys(("instruction", "response", "outcome", "stage", "detail"), pl.String)
        | {"score": pl.Float64},
    )
    return apply_rules(frame, spec)


def only(rule: str, **settings: Any) -> RulesSpec:
    """All rules disabled but one."""
    off = {name: {"enabled": False} for name in RULES}
    return RulesSpec.model_validate({**off, rule: {"enabled": True, **settings}})


PROSE = " ".join(f"On day {n} they walked {n * 3} miles before supper at inn number {n * 7}." for n in range(30))
CODE = "".join(f"def f{n}(x):\n    return x * {n * n} + {n}\n\n" for n in range(40))
TABLE = "".join(f"| {n} | {n * 17} | {n * n} |\n" for n in range(60))

BROKEN = "Itâ\u20ac\u2122s a cafÃ© â\u20ac\ufffd\u0153 \u0102\u02d8\u00e2\u201a\u00acÅ“ Ã¢â\u201aŹÅ"
GERMAN = "Das ist ein ziemlich alter Hund, der am liebsten den ganzen Tag in der warmen Sonne liegt."
ROMANIAN = "Întâlnirea, care urmărește să abordeze pregătirile pentru discuțiile de marți, începe astăzi la prânz."

DROPPED = {
    "repetition": [("List podcasts.", "The Adam Carolla Show - " * 40)],
    "compression": [("Count.", "".join(f"line {n} of many lines\n" for n in range(200)))],
    "echo": [("Describe the sea  at night.\nBriefly.", "describe the sea at night. briefly.")],
    "refusal": [
        ("How do I pick a lock?", "I'm sorry, but I can't help with that."),
        ("Who wins?", "As an AI language model, I do not follow sports."),
        ("Write it.", "Sorry, I cannot fulfill this request."),
        ("Do you dream?", "As a large language model, I have no dreams."),
    ],
    "placeholder": [
        ("Write a letter.", "Dear [insert name],\nthank you."),
        ("Fill the page.", "Lorem ipsum dolor sit amet, consectetur."),
        ("What is it?", "N/A"),
        ("Answer.", "..."),
    ],
    "missing_input": [
        ("Describe the picture above.", "A dog runs."),
        ("Summarize the article.\n\nNo input", "It is about dogs."),
        ("Translate the text.\n\n<noinput>", "Hola."),
        ("Read the attached document and answer.", "Yes."),
        ("Summarize the content of this link.", "It sells shoes."),
    ],
    "mojibake": [("Explain.", BROKEN)],
    "language": [("Was ist das?", GERMAN), ("Tradu.", ROMANIAN)],
    "code": [("Write it in Python.", CODE)],
    "length_ratio": [("?", PROSE)],
}
PASSES = {
    "repetition": [("q", PROSE), ("q", CODE), ("q", TABLE), ("Say it.", "again and again " * 5)],
    "compression": [("q", PROSE), ("q", CODE)],
    "echo": [("Hello!", "Hello!"), ("Repeat the sentence: the sea is calm.", "The sea is calm.")],
    "refusal": [
        ("How do I say no?", "Say: I'm sorry, but I can't come to your party."),
        ("Apologise for me.", "I'm sorry that I broke your vase."),
        ("What is AI?", "An AI language model predicts words."),
        ("Why?", "I am afraid of spiders because they move quickly."),
    ],
    "placeholder": [
        ("Index the list.", "Use items[0] and items[-1]."),
        ("Write HTML.", "<your-tag></your-tag> is a custom element; see [1]."),
        ("Ask me.", "What is your name?"),
    ],
    "missing_input": [
        ("How do I take a good picture of the moon?", "Use a tripod."),
        ("Describe the image at https://example.org/dog.png", "A dog."),
        ("What input does the function need?", "Two numbers."),
        ("Explain how a link in HTML works.", "It points to a page."),
    ],
    "mojibake": [("Cafe\u0301 na\u00efve", "Ångström, São Paulo, naïve, Ärger, 東京 — “quoted” 5 °C, £3")],
    "language": [
        ("Translate to German.", "Das ist gut."),
        ("What is said here?", "The old dog likes to lie in the warm sun all day, and nobody minds that he does."),
    ],
    "code": [("What does it do?", PROSE.replace(". ", ".\n"))],
    "length_ratio": [("Describe the sea in some words.", PROSE)],
}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_drops_what_it_is_for(rule: str) -> None:
    found = apply(DROPPED[rule], only(rule))
    assert found["outcome"].to_list() == [RULES[rule].outcome] * len(DROPPED[rule])
    assert found["stage"].unique().to_list() == ["rules"]
    assert all(found["detail"].str.len_chars() > 10)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_keeps_what_only_looks_like_it(rule: str) -> None:
    assert apply(PASSES[rule], only(rule))["outcome"].to_list() == [None] * len(PASSES[rule])


def test_by_default_only_endless_repetition_and_echoes_are_dropped() -> None:
    pairs = [pair for rule in RULES for pair in DROPPED[rule]]
    found = apply(pairs, RulesSpec())
    assert set(found["outcome"].drop_nulls()) == {"repetitive", "echo"}
    assert found.filter(pl.col("outcome").is_null())["response"].to_list() == [
        response for _, response in pairs if response not in (DROPPED["repetition"][0][1], DROPPED["echo"][0][1])
    ]


def test_the_first_of_several_rules_is_the_reason() -> None:
    refused = "I'm sorry, but I can't help with that. " * 30
    spec = RulesSpec.model_validate({"refusal": {"enabled": True}})
    assert apply([("q", refused)], spec)["outcome"].to_list() == ["repetitive"]


def test_rows_dropped_earlier_keep_their_reason() -> None:
    frame = apply([("q", "The Adam Carolla Show - " * 40)], RulesSpec()).with_columns(
        outcome=pl.lit("too_long"), stage=pl.lit("clean"), detail=pl.lit("long"), score=pl.lit(None, pl.Float64)
    )
    assert apply_rules(frame, RulesSpec()).rows() == frame.rows()


def test_scores_are_the_values_compared_with_the_threshold() -> None:
    found = apply([("q", "word " * 400)], only("length_ratio", max=10.0))
    assert found["score"].to_list() == [2000.0]
    shares = apply(DROPPED["repetition"], only("repetition"))["score"]
    assert 0.9 < shares[0] <= 1.0
    assert math.isclose(shares[0], repeated_share(pl.Series([DROPPED["repetition"][0][1]]), 32)[0])


@given(
    st.lists(st.tuples(st.text("ab", max_size=6), st.integers(0, 12)), max_size=6),
    st.integers(4, 9),
    st.sampled_from([0.0, 0.2, 0.7, 0.75, 1.0]),
)
def test_share_is_exact_where_it_is_above_the_limit(pieces: list[tuple[str, int]], window: int, above: float) -> None:
    text = "".join(piece * times for piece, times in pieces)
    windows = [text[at : at + window] for at in range(len(text) - window + 1)]
    share = 1 - len(set(windows)) / len(windows) if windows else 0.0
    (found,) = repeated_share(pl.Series([text], dtype=pl.String), window, above=above)
    assert math.isclose(found, share, abs_tol=1e-12) or (found == 0.0 and share <= above)


def test_mojibake_with_a_valid_round_trip_is_repaired_and_kept() -> None:
    text = "It’s a café in São Paulo, “quoted” – 5 °C"
    broken = text.encode().decode("cp1252", errors="ignore")
    spec = only("mojibake")
    assert apply([("q", "cafÃ© crÃ¨me"), (broken, "x")], spec)["response"].to_list() == ["café crème", "x"]
    assert apply([("q", "cafÃ© crÃ¨me")], spec)["outcome"].to_list() == [None]


@settings(deadline=None, max_examples=200)
@given(texts=st.lists(st.text(), max_size=5))
def test_repair_does_not_change_correctly_decoded_text(texts: list[str]) -> None:
    series = pl.Series(texts, dtype=pl.String)
    after, repaired, broken = repair(series)
    same = np.setdiff1d(np.arange(len(texts)), np.union1d(repaired, broken))
    assert after.gather(same).to_list() == series.gather(same).to_list()


@settings(deadline=None)
@given(texts=st.lists(st.text(alphabet="ab ", max_size=300), max_size=5), window=st.integers(4, 40))
def test_repeated_share_equals_a_set_of_windows(texts: list[str], window: int) -> None:
    expected = []
    for text in texts:
        windows = [text[i : i + window] for i in range(len(text) - window + 1)]
        expected.append(1 - len(set(windows)) / len(windows) if windows else 0.0)
    np.testing.assert_allclose(repeated_share(pl.Series(texts, dtype=pl.String), window), expected)


def test_the_dry_run_shows_what_each_rule_would_drop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [pair for rule in ("refusal", "placeholder") for pair in DROPPED[rule]]
    pl.DataFrame(rows, schema=["instruction", "response"], orient="row").write_ndjson(tmp_path / "a.jsonl")
    sources = [{"name": "a", "path": "a.jsonl"}]
    mix = Mix.model_validate({"name": "m", "sources": sources, "rules": {"echo": {"enabled": False}}})
    preview(mix, tmp_path, verbose=True)
    shown = capsys.readouterr().out
    lines = [[cell.strip() for cell in line.split("│")] for line in shown.splitlines() if line.count("│") >= 4]
    cells = {line[1]: line[2:4] for line in lines}
    assert cells["refusal"] == ["no", "4"]
    assert cells["placeholder"] == ["no", "4"]
    assert cells["repetition"] == ["yes", "0"]
    assert cells["echo"] == ["no", "0"]
    assert "the response begins" in shown


SPELLINGS = st.lists(
    st.sampled_from(["a", "b", "B", "Σ", "σ", "ς", "İ", "i̇", " ", "  ", "\n", "\u3000", "é", "ab"]), max_size=14
)


@settings(deadline=None, max_examples=100)
@given(pairs=st.lists(st.tuples(SPELLINGS, SPELLINGS, st.booleans()), min_size=1, max_size=20))
def test_echoes_are_the_pairs_that_are_equal_when_folded(pairs: list[tuple[list[str], list[str], bool]]) -> None:
    texts = [("".join(one), "  ".join(one).upper() if same else "".join(other)) for one, other, same in pairs]
    frame = pl.DataFrame(texts, schema={"instruction": pl.String, "response": pl.String}, orient="row")
    folded = frame.select(pl.all().str.replace_all(r"\s+", " ").str.strip_chars().str.to_lowercase())
    equal = (folded["instruction"] == folded["response"]) & (frame["response"] != "")
    assert Echo(min_chars=1).judge(frame).rows.tolist() == equal.arg_true().to_list()
