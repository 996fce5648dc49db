"""Data sets that no format or adapter knows: code of a few lines beside the manifest, `map:` and `chat:`."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from corpus.discover import discover
from corpus.pairs import read_pairs
from corpus.record import FileEnd, Pair, Rejected
from corpus.source import SourceSpec

XML_SET = """
from xml.etree.ElementTree import iterparse

def rows(file):
    for _, element in iterparse(file):
        if element.tag == "item":
            yield {"question": element.findtext("q"), "answer": element.findtext("a")}
            element.clear()
"""

ALTERNATING_LINES = """
def rows(file):
    for line in file:
        yield {"question": line.decode().strip(), "answer": next(file).decode().strip()}
"""

SPANS = """
def pairs(row):
    for question in row["questions"]:
        for begin, end in question["spans"]:
            yield f"{row['text']}\\n\\n{question['ask']}", row["text"][begin:end]
"""


def read(folder: Path, name: str, content: str, **spec: Any) -> list[Pair | Rejected]:
    """The pairs and rejected rows of a source of one file."""
    (folder / name).write_text(content, encoding="utf-8")
    source = SourceSpec.model_validate({"name": "s", "path": name, **spec}, context={"base": folder})
    (file,) = discover(source, folder)
    *found, end = read_pairs(source, file)
    assert isinstance(end, FileEnd)
    assert end.outcome.value == "read", end
    return [item for item in found if isinstance(item, Pair | Rejected)]


def texts(found: list[Pair | Rejected]) -> list[tuple[str, str]]:
    assert all(isinstance(item, Pair) for item in found), found
    return [(item.instruction, item.response) for item in found if isinstance(item, Pair)]


def rejection(folder: Path, row: dict[str, Any], **spec: Any) -> str:
    (found,) = read(folder, "rows.jsonl", json.dumps(row), **spec)
    assert isinstance(found, Rejected), found
    return f"{found.reason}: {found.detail}"


# --- Code beside the manifest -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [XML_SET, ALTERNATING_LINES, SPANS])
def test_hook_takes_at_most_ten_lines(code: str) -> None:
    assert len([line for line in code.splitlines() if line.strip()]) <= 10


def test_xml_set_is_read_by_a_format_of_six_lines(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(XML_SET)
    xml = "<set><item><q>2 + 2?</q><a>4</a></item><item><q>Größe &lt; 3?</q><a>ja</a></item></set>"
    found = read(tmp_path, "set.xml", xml, format="mine:rows")
    assert texts(found) == [("2 + 2?", "4"), ("Größe < 3?", "ja")]


def test_set_of_alternating_lines_is_read_by_a_format_of_three_lines(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(ALTERNATING_LINES)
    found = read(tmp_path, "talk.txt", "How are you?\nFine.\nAnd you?\nFine, too.\n", format="mine:rows")
    assert texts(found) == [("How are you?", "Fine."), ("And you?", "Fine, too.")]


def test_line_without_its_answer_ends_the_file_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(ALTERNATING_LINES)
    (tmp_path / "talk.txt").write_text("How are you?\nFine.\nAnd you?\n")
    spec = {"name": "s", "path": "talk.txt", "format": "mine:rows"}
    source = SourceSpec.model_validate(spec, context={"base": tmp_path})
    pair, end = read_pairs(source, *discover(source, tmp_path))
    assert isinstance(pair, Pair)
    assert isinstance(end, FileEnd)
    assert (end.outcome.value, end.position) == ("truncated", "after row 1")
    assert end.detail == "the file ends in the middle of a row: mine:rows asked for more than it has"


def test_answers_that_are_spans_of_another_field_are_cut_by_an_adapter_of_four_lines(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SPANS)
    row = {"text": "Ann met Bo.", "questions": [{"ask": "Who met?", "spans": [[0, 3], [8, 10]]}]}
    found = read(tmp_path, "rows.jsonl", json.dumps(row), adapter="mine:pairs")
    assert texts(found) == [("Ann met Bo.\n\nWho met?", "Ann"), ("Ann met Bo.\n\nWho met?", "Bo")]


# --- map: -------------------------------------------------------------------------------------------------------------

ROW: dict[str, Any] = {
    "q": "Which?",
    "options": ["red", "green", "blue"],
    "gold": "B",
    "turns": [{"text": "one"}, {"text": "two"}],
}


def mapped(folder: Path, row: dict[str, Any], instruction: str, response: str = "{gold}") -> list[tuple[str, str]]:
    return texts(read(folder, "rows.jsonl", json.dumps(row), map={"instruction": instruction, "response": response}))


@pytest.mark.parametrize(
    ("path", "row", "expected"),
    [
        ("turns.*.text", {}, "one\ntwo"),
        ("turns.*.text", {"turns": json.dumps(ROW["turns"])}, "one\ntwo"),
        ("turns.*.text", {"turns": {"a": {"text": 1}, "b": {"text": True}}}, "1\ntrue"),
        ("options.*", {}, "red\ngreen\nblue"),
        ("a.*.b.*", {"a": [{"b": ["1", "2"]}, {"b": ["3"]}]}, "1\n2\n3"),
        ("turns.*.text?", {"turns": [{"text": "one"}, {"image": None}, {"text": None}]}, "one"),
        ("nothing.*.text?", {}, ""),
    ],
)
def test_star_joins_the_texts_of_every_item_by_newlines(
    tmp_path: Path, path: str, row: dict[str, Any], expected: str
) -> None:
    assert mapped(tmp_path, ROW | row, f"{{q}} {{{path}}}") == [(f"Which? {expected}", "B")]


@pytest.mark.parametrize(
    ("options", "gold", "expected"),
    [
        (ROW["options"], "B", "green"),
        (ROW["options"], "(b)", "green"),
        (ROW["options"], 1, "green"),
        (ROW["options"], 1.0, "green"),
        (ROW["options"], "2", "blue"),
        (ROW["options"], "AC", "red\nblue"),
        (["no", "yes"], True, "yes"),
        (json.dumps(ROW["options"]), "C", "blue"),
        ({"A": "red", "B": "green"}, "B", "green"),
        ({"1": "red", "2": "green"}, 2, "green"),
        ({"text": ["red", "green"], "label": ["1", "2"]}, "2", "green"),
        ([{"key": "A", "value": "red"}, {"key": "B", "value": "green"}], "B", "green"),
    ],
)
def test_another_field_chooses_an_option_by_number_letter_or_key(
    tmp_path: Path, options: Any, gold: Any, expected: str
) -> None:
    assert mapped(tmp_path, ROW | {"options": options, "gold": gold}, "{q}", "{options[gold]}") == [
        ("Which?", expected)
    ]


def test_option_of_an_item_is_chosen_by_a_field_of_the_item_or_else_of_the_row(tmp_path: Path) -> None:
    items = [{"options": ["a", "b"], "gold": "B"}, {"options": ["c", "d"]}]
    assert mapped(tmp_path, ROW | {"gold": "A", "items": items}, "{q}", "{items.*.options[gold]}") == [
        ("Which?", "b\nc")
    ]


def test_column_whose_name_has_brackets_and_dots_comes_before_a_path(tmp_path: Path) -> None:
    assert mapped(tmp_path, ROW | {"options[gold]": "x", "turns.*": "y"}, "{turns.*}", "{options[gold]}") == [
        ("y", "x")
    ]


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        ("{option[gold]}", "missing_field: there is no option; did you mean 'options'?; found the columns 'q', 'opt"),
        ("{options[glod]}", "missing_field: there is no glod; did you mean 'gold'?; found the columns 'q', 'options'"),
        ("{turns.*.txt}", "missing_field: there is no turns.0.txt; did you mean 'text'?; turns.0 has the keys 'text'"),
        ("{turns.2.text}", "missing_field: there is no turns.2; turns is a list of 2 items; expected a number below"),
        ("{q.a}", "missing_field: there is no q.a; q is 'Which?'; expected an object or list"),
        ("{options[q]}", "wrong_type: q is 'Which?'; expected the number, letter or text of one of 3 options"),
        (
            "{options[last]}",
            "missing_field: there is no options[last]: last is 3; expected a number from 0 to 2 or a l",
        ),
        ("{options[none]}", "wrong_type: none is '-1'; expected the number, letter or text of one of 3 options"),
        ("{q[gold]}", "missing_field: there is no q[gold]: gold is 'B'; expected a list or object in q, which is 'W"),
        ("{empty.*}", "no_pair: empty is empty; expected items"),
    ],
)
def test_path_that_leads_nowhere_is_rejected_with_what_was_found(tmp_path: Path, response: str, problem: str) -> None:
    row = ROW | {"last": 3, "none": -1, "empty": []}
    found = rejection(tmp_path, row, map={"instruction": "{q}", "response": response})
    assert found.startswith(problem)


def test_columns_of_a_path_are_not_kept_as_meta(tmp_path: Path) -> None:
    template = {"instruction": "{q} {turns.*.text}", "response": "{options[gold]}"}
    (found,) = read(tmp_path, "rows.jsonl", json.dumps(ROW | {"level": 3}), map=template)
    assert isinstance(found, Pair)
    assert json.loads(found.meta or "") == {"level": 3}


# --- chat: ------------------------------------------------------------------------------------------------------------

CHAT: dict[str, Any] = {
    "turns": "utterances",
    "role": "speaker",
    "text": "said",
    "roles": {"guest": "user", 1: "assistant"},
}
TALK: dict[str, Any] = {
    "utterances": [
        {"speaker": "guest", "said": "Hi."},
        {"speaker": 1, "said": "<think>polite</think>Hello!"},
        {"speaker": "guest", "said": "A room?"},
        {"speaker": "bot", "said": "Yes."},
    ]
}
PAIRS = [("Hi.", "<think>polite</think>Hello!"), ("User: Hi.\n\nAssistant: Hello!\n\nUser: A room?", "Yes.")]


@pytest.mark.parametrize("form", ["list", "json", "keyed", "columns", "nested"])
def test_conversation_under_other_names_makes_the_pairs_of_the_chat_adapter(tmp_path: Path, form: str) -> None:
    turns, chat = TALK["utterances"], CHAT
    row: dict[str, Any] = {"utterances": turns}
    if form == "json":
        row = {"utterances": json.dumps(turns)}
    elif form == "keyed":
        row = {"utterances": {f"turn{n}": turn for n, turn in enumerate(turns)}}
    elif form == "columns":
        row = {"utterances": {key: [turn[key] for turn in turns] for key in ("speaker", "said")}}
    elif form == "nested":
        row = {"log": {"events": [{"by": {"id": turn["speaker"]}, "said": turn["said"]} for turn in turns]}}
        chat = CHAT | {"turns": "log.events", "role": "by.id"}
    assert texts(read(tmp_path, "rows.jsonl", json.dumps(row), chat=chat)) == PAIRS


def test_context_columns_and_marks_on_turns_count_as_in_other_conversations(tmp_path: Path) -> None:
    turns = [turn | {"train": n != 1} for n, turn in enumerate(TALK["utterances"])]
    row = {"system": "Be brief.", "utterances": turns, "id": 7}
    first, second = read(tmp_path, "rows.jsonl", json.dumps(row), chat=CHAT)
    assert isinstance(first, Rejected)
    assert first.reason.value == "not_trained"
    assert isinstance(second, Pair)
    assert second.instruction == f"Be brief.\n\n{PAIRS[1][0]}"
    assert json.loads(second.meta or "") == {"id": 7}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"utterance": []}, "missing_field: there is no utterances; did you mean 'utterance'?; found the columns"),
        ({"utterances": "hello"}, "wrong_type: utterances is 'hello'; expected a list of turns"),
        ({"utterances": ["hello"]}, "wrong_type: utterances.0 is 'hello'; expected an object with speaker and said"),
        (
            {"utterances": [{"speaker": "gest", "said": "Hi."}]},
            "wrong_type: utterances.0.speaker is 'gest'; did you mean 'guest'?; expected 'guest', '1', a usual name",
        ),
        (
            {"utterances": [{"speaker": "guest", "sad": "Hi."}]},
            "missing_field: utterances.0: there is no said; did you mean 'sad'?; found the columns 'speaker', 'sad'",
        ),
        (
            {"utterances": [{"speaker": "guest", "said": None}]},
            "missing_field: utterances.0.said is null; expected text",
        ),
        (
            {"utterances": [{"speaker": "guest", "said": "Hi."}]},
            "no_pair: a conversation of 1 turn (user) without an answer",
        ),
    ],
)
def test_turn_that_is_not_as_stated_is_rejected_with_what_was_found(
    tmp_path: Path, row: dict[str, Any], problem: str
) -> None:
    assert rejection(tmp_path, row, chat=CHAT).startswith(problem)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"chat": CHAT, "adapter": "chat"}, "expected at most one of adapter, map and chat, found adapter and chat"),
        ({"chat": CHAT | {"roles": {"a": "boss"}}}, "'system', 'user', 'assistant', 'call' or 'tool'"),
        ({"chat": {"turns": "x"}}, "Field required"),
    ],
)
def test_contradictory_chat_is_refused(spec: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        SourceSpec.model_validate({"name": "s", "path": "x", **spec})


def test_manifest_with_chat_is_yaml(tmp_path: Path) -> None:
    spec = yaml.safe_load("{name: s, path: x, chat: {turns: t, role: r, text: c, roles: {0: user, 1: assistant}}}")
    assert SourceSpec.model_validate(spec).model_dump()["chat"]["roles"] == {"0": "user", "1": "assistant"}
