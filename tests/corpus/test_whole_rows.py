"""Adapters take the whole row: marks on turns, roles and shapes of messages, labels, right options, media."""

from typing import Any

import pytest

from corpus.adapters import ADAPTERS, guess
from corpus.adapters.base import MARKUP_KEY, Adapted
from corpus.formats.base import RowError
from corpus.markup import END_MARKERS, Markup
from corpus.outcome import Outcome

CONTEXT = {MARKUP_KEY: Markup()}


def adapt(row: dict[str, Any], name: str | None = None) -> Adapted:
    return ADAPTERS[name or guess([row], CONTEXT) or "pairs"].adapt(row, CONTEXT)


def pairs(row: dict[str, Any], name: str | None = None) -> list[tuple[str, str]]:
    return [tuple(draft) for draft in adapt(row, name).drafts]


def rejection(row: dict[str, Any], name: str | None = None) -> RowError:
    with pytest.raises(RowError) as caught:
        adapt(row, name)
    return caught.value


def chat(*messages: Any) -> dict[str, Any]:
    return {"messages": list(messages)}


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def assistant(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


# Marks


@pytest.mark.parametrize(
    "mark",
    [
        {"weight": 0},
        {"weight": 0.0},
        {"weight": "0"},
        {"loss_weight": 0},
        {"train": False},
        {"train": "false"},
        {"training": False},
        {"trainable": "No"},
        {"loss": False},
        {"loss_mask": 0},
        {"learn": 0},
        {"mask": True},
        {"mask": 1},
        {"masked": "true"},
        {"ignore": True},
    ],
)
def test_marked_answer_is_context_only_and_dropped_by_name(mark: dict[str, Any]) -> None:
    found = adapt(chat(user("a"), assistant("bad", **mark), user("c"), assistant("d")))
    assert [tuple(draft) for draft in found.drafts] == [("User: a\n\nAssistant: bad\n\nUser: c", "d")]
    ((part, outcome, detail),) = found.dropped
    assert (part, outcome) == (0, Outcome.NOT_TRAINED)
    assert detail.startswith(f"messages.1.{next(iter(mark))} is ")


@pytest.mark.parametrize(
    "mark", [{"weight": 1}, {"weight": 0.5}, {"weight": None}, {"train": True}, {"loss_mask": "1"}, {"mask": False}]
)
def test_other_marks_and_marks_on_questions_exclude_nothing(mark: dict[str, Any]) -> None:
    found = adapt(chat(user("a", weight=0), assistant("b", **mark)))
    assert (len(found.drafts), list(found.dropped)) == (1, [])


def test_mark_of_unknown_meaning_refuses_the_row() -> None:
    error = rejection(chat(user("a"), assistant("b", weight="heavy")))
    assert (error.reason, "messages.1.weight is 'heavy'" in error.detail) == (Outcome.WRONG_TYPE, True)


def test_marks_may_be_a_list_beside_the_turns_or_the_answers() -> None:
    turns = chat(user("a"), assistant("bad"), user("c"), assistant("d"))
    for marks in ([0, 0, 0, 1], [0, 1]):
        found = adapt(turns | {"loss_mask": marks})
        assert [draft.response for draft in found.drafts] == ["d"]
        assert [item.part for item in found.dropped] == [0]
    assert "3 items" in rejection(turns | {"loss_mask": [0, 1, 1]}).detail


def test_conversation_of_marked_answers_only_has_no_pair_but_names_each() -> None:
    found = adapt(chat(user("a"), assistant("b", weight=0), user("c"), assistant("d", weight=0)))
    assert (list(found.drafts), [item.part for item in found.dropped]) == ([], [0, 1])


# Messages


@pytest.mark.parametrize("role", ["assistant", "ASSISTANT", "ai", "AI", "gpt", "bot", "model", "chatbot", "chat-gpt"])
def test_roles_have_all_usual_spellings(role: str) -> None:
    for asking in ("user", "User", "human", "HUMAN", "prompter"):
        for role_key, text_key in (("role", "content"), ("from", "value"), ("speaker", "text"), ("role", "text")):
            row = chat({role_key: asking, text_key: "a"}, {role_key: role, text_key: "b"})
            assert pairs(row) == [("a", "b")]


def test_unknown_role_is_an_error_that_names_it() -> None:
    error = rejection(chat({"role": "narrator", "content": "a"}, assistant("b")))
    assert "messages.0.role is 'narrator'" in error.detail


def test_order_is_kept_with_system_turns_anywhere() -> None:
    system = {"role": "system", "content": "s"}
    assert pairs(chat(system, assistant("b"))) == [("s", "b")]
    assert pairs(chat(user("a"), system, assistant("b"))) == [("User: a\n\nSystem: s", "b")]
    assert pairs(chat(user("a"), assistant("b"), system, user("c"), assistant("d")))[1] == (
        "User: a\n\nAssistant: b\n\nSystem: s\n\nUser: c",
        "d",
    )
    assert rejection(chat(system)).reason == Outcome.NO_PAIR


def test_consecutive_turns_of_one_role_stay_apart() -> None:
    assert pairs(chat(user("a"), user("b"), assistant("c"))) == [("User: a\n\nUser: b", "c")]
    assert pairs(chat(user("a"), assistant("b"), assistant("c"))) == [("a", "b"), ("User: a\n\nAssistant: b", "c")]


@pytest.mark.parametrize("content", [{"content": None}, {}, {"content": ""}, {"content": " \n"}])
@pytest.mark.parametrize("empty", [{}, {"tool_calls": []}, {"tool_calls": None}, {"tool_calls": "[]"}])
def test_call_is_the_answer_whatever_the_empty_text_beside_it(content: dict[str, Any], empty: dict[str, Any]) -> None:
    call = {"role": "assistant", **content, **empty, "function_call": {"name": "f", "arguments": "{}"}}
    text = '{"name": "f", "arguments": "{}"}'
    for role in ("function", "tool", "ipython", "observation", "tool_response"):
        assert pairs(chat(user("a"), call, {"role": role, "content": "1"}, assistant("b"))) == [
            ("a", text),
            (f"User: a\n\nTool call: {text}\n\nTool result: 1", "b"),
        ]


def test_call_of_nulls_only_is_none_and_a_call_as_json_text_is_not_quoted_again() -> None:
    nulls = {"name": None, "arguments": None}
    assert pairs(chat(user("a", function_call=None), assistant("b", function_call=nulls))) == [("a", "b")]
    assert pairs(chat(user("a"), assistant(None, tool_calls='[{"name": "f"}]'))) == [("a", '[{"name": "f"}]')]


def test_parts_of_text_calls_and_results_are_read_and_thinking_is_not() -> None:
    row = chat(
        user([{"type": "text", "value": "a"}]),
        assistant(
            [
                {"type": "thinking", "thinking": "hm"},
                {"type": "text", "text": "Looking."},
                {"type": "tool_use", "name": "f", "input": {}},
            ]
        ),
        user([{"type": "tool_result", "content": [{"type": "text", "text": "1"}]}]),
        assistant("b"),
    )
    call = '[{"type": "tool_use", "name": "f", "input": {}}]'
    assert pairs(row) == [
        ("a", "Looking."),
        ("User: a\n\nAssistant: Looking.", call),
        (f"User: a\n\nAssistant: Looking.\n\nTool call: {call}\n\nTool result: 1", "b"),
    ]


def test_conversation_may_be_json_text_or_an_object_of_lists() -> None:
    text = '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]'
    assert pairs({"messages": text}) == [("a", "b")]
    assert pairs({"messages": {"role": ["user", "assistant"], "content": ["a", "b"]}}) == [("a", "b")]
    assert pairs(
        {"messages": None, "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}
    ) == [("a", "b")]


@pytest.mark.parametrize("name", ["system", "system_prompt", "System Prompt", "system_message", "system_instruction"])
def test_system_column_precedes_the_question_in_every_layout(name: str) -> None:
    options = {"options": ["x", "y"], "answer": "B"}
    assert pairs({name: "s", "question": "a", "response": "b"}) == [("s\n\na", "b")]
    assert pairs({name: "s", "prompt": "a", "completion": "b"}) == [("s\n\na", "b")]
    assert pairs({name: "s", "instruction": "a", "input": "i", "output": "b"}) == [("s\n\na\n\ni", "b")]
    assert pairs({name: "s", **chat(user("a"), assistant("b"))}) == [("s\n\na", "b")]
    assert pairs({name: "s", **chat({"role": "system", "content": "s"}, user("a"), assistant("b"))}) == [
        ("s\n\na", "b")
    ]
    assert pairs({name: "s", "prompt": "a", "chosen": "b", "rejected": "x"}) == [("s\n\na", "b")]
    assert pairs({name: "s", "prompt": "a", "completion": "b", "label": 1}) == [("s\n\na", "b")]
    assert pairs({name: "s", "question": "a", **options}) == [("s\n\na\n\nA. x\nB. y", "y")]


def test_context_comes_in_the_stated_order() -> None:
    row = {
        "answer": "b",
        "input": "i",
        "question": "q",
        "history": [["h1", "h2"]],
        "context": "p",
        "tools": [{"name": "f"}],
        "system": "s",
    }
    text = 's\n\n[{"name": "f"}]\n\nUser: h1\n\nAssistant: h2\n\nUser: p\n\nq\n\ni'
    assert pairs(row) == [(text, "b")]
    assert adapt(row).used == set(row)


def test_null_column_gives_way_to_a_filled_one_of_the_same_meaning() -> None:
    assert pairs({"instruction": None, "question": "a", "output": None, "response": None, "answer": "b"}) == [
        ("a", "b")
    ]


# Thinking and end markers


def test_thinking_goes_from_earlier_answers_and_stays_in_questions() -> None:
    row = chat(
        user("a <think>?</think>"),
        assistant("<think>hm\nhm</think>\n\nb"),
        user("c"),
        assistant("template began it</think>d"),
        user("e"),
        assistant("<think>hm</think>f"),
    )
    assert pairs(row)[2] == (
        "User: a <think>?</think>\n\nAssistant: b\n\nUser: c\n\nAssistant: d\n\nUser: e",
        "<think>hm</think>f",
    )


@pytest.mark.parametrize("marker", END_MARKERS)
def test_end_markers_go_from_earlier_turns(marker: str) -> None:
    row = chat(user(f"a{marker}"), assistant(f"b {marker}\n{marker}"), user("c"), assistant("d"))
    assert pairs(row) == [("a", f"b {marker}\n{marker}"), ("User: a\n\nAssistant: b\n\nUser: c", "d")]


def test_markup_that_the_manifest_keeps_stays_in_earlier_turns() -> None:
    row = chat(user("a"), assistant("<think>hm</think>b</s>"), user("c"), assistant("d"))
    drafts = ADAPTERS["chat"].adapt(row, {MARKUP_KEY: Markup(remove_think=False, end_markers=())}).drafts
    assert drafts[1].instruction == "User: a\n\nAssistant: <think>hm</think>b</s>\n\nUser: c"


# Labels

GOOD = [True, 1, 1.0, "true", "True", "1", "yes", "good", "desirable", "chosen", "correct", "thumbs_up"]
BAD = [False, 0, 0.0, -1, "false", "FALSE", "0", "no", "bad", "undesirable", "rejected", "incorrect", "thumbs-down"]


@pytest.mark.parametrize("row", [{"prompt": "a", "completion": "b"}, chat(user("a"), assistant("b"))])
def test_labels_have_all_usual_spellings(row: dict[str, Any]) -> None:
    for label in GOOD:
        assert pairs(row | {"label": label}) == [("a", "b")]
    for label in BAD:
        assert rejection(row | {"label": label}).reason == Outcome.REJECTED_LABEL


@pytest.mark.parametrize("label", [2, "maybe", "science", 0.7, [1]])
def test_unknown_label_is_refused_with_the_key_to_state(label: Any) -> None:
    error = rejection({"prompt": "a", "completion": "b", "label": label})
    assert (error.reason, "state `adapter: prompt_completion`" in error.detail) == (Outcome.WRONG_TYPE, True)


def test_answer_that_is_marked_as_wrong_is_rejected_under_other_names() -> None:
    assert rejection({"question": "a", "answer": "b", "label": 0}).reason == Outcome.REJECTED_LABEL
    assert rejection({"problem": "a", "generated_solution": "b", "is_correct": False}).reason == Outcome.REJECTED_LABEL


def test_undecided_preference_has_no_pair() -> None:
    row = {"prompt": "a", "response_a": "x", "response_b": "y", "winner": "tie"}
    assert rejection(row).reason == Outcome.NO_PAIR
    assert "better is 'neither?'" in rejection(row | {"winner": None, "better": "neither?"}).detail


def test_scores_that_do_not_match_the_answers_are_refused() -> None:
    row = {"prompt": "a", "responses": ["x", "y"], "scores": [1]}
    assert "2 answers and 1 scores" in rejection(row).detail
    assert pairs(row | {"scores": [1, 1]}) == [("a", "x")]


def test_several_completions_without_scores_are_a_pair_each() -> None:
    assert pairs({"prompt": "a", "completions": ["x", "y"]}) == [("a", "x"), ("a", "y")]


# Multiple choice


@pytest.mark.parametrize(
    "gold", ["B", "b", "(B)", "B.", "B)", "yes", "YES", 1, 1.0, "2", "option 2", ["B"], [False, True, False], "B. yes"]
)
def test_right_option_is_stated_by_letter_number_or_text(gold: Any) -> None:
    row = {"question": "q", "options": ["no", "yes", "maybe"], "answer": gold}
    assert pairs(row, "choices") == [("q\n\nA. no\nB. yes\nC. maybe", "yes")]


@pytest.mark.parametrize(
    "options",
    [
        {"choices": ["x", "y"]},
        {"options": {"A": "x", "B": "y"}},
        {"options": {"A": "x", "B": "y", "C": None}},
        {"options": '["x", "y"]'},
        {"options": "['x', 'y']"},
        {"options": "A. x\nB. y"},
        {"options": "a ) x , b ) y"},
        {"options": ["A. x", "B. y"]},
        {"options": [{"label": "A", "text": "x"}, {"label": "B", "text": "y"}]},
        {"options": [{"key": "A", "value": "x"}, {"key": "B", "value": "y"}]},
        {"choices": {"text": ["x", "y"], "label": ["A", "B"]}},
        {"A": "x", "B": "y", "C": None, "D": ""},
        {"option_a": "x", "option_b": "y"},
        {"Option A": "x", "Option B": "y"},
        {"opa": "x", "opb": "y"},
        {"choice1": "x", "choice2": "y"},
        {"option1": "x", "option2": "y"},
        {"ending0": "x", "ending1": "y"},
        {"sol1": "x", "sol2": "y"},
    ],
)
def test_options_have_all_usual_shapes(options: dict[str, Any]) -> None:
    assert pairs({"question": "q", **options, "answer": "B"}, "choices") == [("q\n\nA. x\nB. y", "y")]
    assert pairs({"passage": "p", "question": "q", **options, "answer": "B"}) == [("p\n\nq\n\nA. x\nB. y", "y")]


def test_numbers_count_as_the_rows_of_a_file_allow() -> None:
    def rows(golds: list[Any]) -> list[dict[str, Any]]:
        return [{"question": "q", "options": ["x", "y", "z"], "answer": gold} for gold in golds]

    assert guess(rows([0, 1, 2]), {}) == "choices"
    assert guess(rows([1, 2, 3]), {}) == "choices_from_1"
    assert guess(rows(["0", "1", "2"]), {}) == "choices_from_0"
    assert guess(rows(["1", "2", "3"]), {}) == "choices"
    assert guess(rows(["A", "B"]), {}) == "choices"
    assert pairs(rows([1])[0], "choices_from_0")[0][1] == "y"
    assert pairs(rows([1])[0], "choices_from_1")[0][1] == "x"


def test_number_that_is_also_the_text_of_another_option_is_refused() -> None:
    error = rejection({"question": "q", "options": ["3", "1", "2"], "answer": "1"}, "choices")
    assert "text of one option and the number of another" in error.detail
    assert pairs({"question": "q", "options": ["1", "2", "3"], "answer": "2"}, "choices")[0][1] == "2"


def test_question_without_a_right_option_has_no_pair() -> None:
    for gold in (-1, "", None):
        assert rejection({"question": "q", "options": ["x", "y"], "label": gold}, "choices").reason == Outcome.NO_PAIR


def test_several_right_options_are_answered_one_a_line() -> None:
    assert pairs({"question": "q", "A": "x", "B": "y", "C": "z", "answer": "AC"})[0][1] == "x\nz"


def test_options_beside_a_written_answer_are_part_of_the_instruction() -> None:
    row = {"instruction": "q", "options": ["x", "y"], "output": "It is y."}
    assert pairs(row) == [("q\n\nA. x\nB. y", "It is y.")]


# Answers


def test_question_without_an_answer_has_no_pair() -> None:
    assert rejection({"question": "q", "answers": {"text": [], "answer_start": []}}).reason == Outcome.NO_PAIR
    found = adapt({"context": "p", "qas": [{"question": "q", "answers": [], "is_impossible": True}]})
    assert (list(found.drafts), [item.outcome for item in found.dropped]) == ([], [Outcome.NO_PAIR])


def test_prompt_without_a_response_is_named() -> None:
    assert "expected an instruction and a response" in rejection({"prompt": "a"}).detail


# Media


@pytest.mark.parametrize(
    "row",
    [
        chat(
            user([{"type": "image_url", "image_url": {"url": "x.png"}}, {"type": "text", "text": "a"}]), assistant("b")
        ),
        chat(user([{"type": "input_audio", "input_audio": {"data": "x"}}]), assistant("b")),
        chat(user([{"image": "x.png"}, {"text": "a"}]), assistant("b")),
        chat(user("a", images=["x.png"]), assistant("b")),
        chat(user("a"), assistant("b"), user([{"type": "video", "video": "x.mp4"}]), assistant("c")),
        chat(user("<image>\na"), assistant("b")) | {"image": "x.png"},
        chat(user("a"), assistant("b")) | {"images": [{"bytes": b"x", "path": None}]},
        {"question": "What is in the picture?", "answer": "b", "image": "https://host/x.png"},
        {"question": "Which colour?", "answer": "b", "image": {"bytes": b"x"}},
        {"instruction": "a", "output": "b", "audio": {"path": "x.wav"}},
        {"instruction": "a", "output": "b", "video_path": "x.mp4"},
    ],
)
def test_row_with_media_is_refused(row: dict[str, Any]) -> None:
    assert rejection(row).reason == Outcome.MEDIA


@pytest.mark.parametrize(
    "more", [{"image": None}, {"images": []}, {"image": ""}, {"image_url": "https://host/x.png"}, {"imagery": "x.png"}]
)
def test_row_whose_text_does_not_need_its_media_is_read(more: dict[str, Any]) -> None:
    assert pairs({"instruction": "a", "output": "b", **more}) == [("a", "b")]
    assert pairs(chat(user("a"), assistant("b")) | more) == [("a", "b")]
