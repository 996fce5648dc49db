"""Neighbours of the public layouts: other spellings, nestings and encodings of the same columns, whole or refused."""

import json
from typing import Any

import pytest

from corpus.adapters import ADAPTERS, guess
from corpus.adapters.base import MARKUP_KEY, Adapted
from corpus.columns import context_columns
from corpus.formats.base import RowError
from corpus.markup import Markup
from corpus.outcome import Outcome

CONTEXT = {MARKUP_KEY: Markup()}
Pairs = list[tuple[str, str]]


def adapt(row: dict[str, Any]) -> Adapted:
    return ADAPTERS[guess([row], CONTEXT) or "pairs"].adapt(row, CONTEXT)


def pairs(row: dict[str, Any]) -> Pairs:
    return [tuple(draft) for draft in adapt(row).drafts]


def dropped(row: dict[str, Any]) -> list[Outcome]:
    try:
        return [item.outcome for item in adapt(row).dropped]
    except RowError as error:
        return [error.reason]


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def assistant(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


AFTER_B: Pairs = [("User: a\n\nAssistant: b\n\nUser: c", "d")]
TWO: Pairs = [("a", "b"), ("User: a\n\nAssistant: b\n\nUser: c", "d")]
CALL = '[{"name": "f"}]'
WITH_CALL: Pairs = [("a", CALL), (f"User: a\n\nTool call: {CALL}\n\nTool result: 1", "b")]


# Earlier turns, and answers beside a conversation


@pytest.mark.parametrize(
    "history",
    [
        [["a", "b"]],
        ["a", "b"],
        [{"human": "a", "bot": "b"}],
        [{"assistant": "b", "user": "a"}],
        [{"response": "b", "prompt": "a"}],
        {"user": ["a"], "assistant": ["b"]},
        {"role": ["user", "assistant"], "content": ["a", "b"]},
        '[{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]',
    ],
)
def test_history_of_any_nesting_precedes_the_question(history: Any) -> None:
    for name in ("history", "chat_history", "previous_messages"):
        assert pairs({"instruction": "c", "output": "d", name: history}) == AFTER_B


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"document": "p", "messages": [user("a")], "answers": ["b"]}, [("p\n\na", "b")]),
        ({"messages": [user("a"), assistant("b"), user("c")], "response": "d"}, AFTER_B),
        ({"conversations": [{"from": "human", "value": "a"}], "output": "b"}, [("a", "b")]),
        ({"messages": [user("a")], "completion": assistant("b")}, [("a", "b")]),
        ({"history": [user("a"), assistant("b"), user("c")], "response": "d"}, AFTER_B),
        ({"messages": [user("a"), assistant("b"), user("c")], "completion": "d", "label": True}, AFTER_B),
    ],
)
def test_answer_in_a_column_beside_the_conversation_is_the_only_one(row: dict[str, Any], expected: Pairs) -> None:
    assert pairs(row) == expected


# Messages


@pytest.mark.parametrize(
    "conversation",
    [
        [{"assistant": "b", "user": "a"}, {"assistant": "d", "user": "c"}],
        [{"answer": "b", "question": "a"}, {"answer": "d", "question": "c"}],
        {"assistant": ["b", "d"], "user": ["a", "c"]},
        {"prompt": ["a", "c"], "response": ["b", "d"]},
        {"1": {"user": "a", "assistant": "b"}, "2": {"user": "c", "assistant": "d"}},
    ],
)
def test_keys_of_a_message_may_come_in_any_order(conversation: Any) -> None:
    assert pairs({"conversation": conversation}) == TWO


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "output": "1"},
        {"role": "tool", "content": None, "result": "1"},
        {"role": "function", "name": "f", "response": "1"},
        {"type": "function_call_output", "call_id": "c", "output": "1"},
        {"role": "user", "content": [{"functionResponse": {"name": "f", "response": "1"}}]},
        {"role": "user", "content": [{"toolResult": {"content": [{"text": "1"}]}}]},
        {"role": "tools", "content": "1"},
        {"role": "execution_result", "content": "1"},
    ],
)
def test_result_of_a_tool_is_never_lost(message: dict[str, Any]) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}
    assert pairs({"messages": [user("a"), call, message, assistant("b")]}) == WITH_CALL


@pytest.mark.parametrize("key", ["tool_calls", "toolCalls", "tools_calls", "function_calls", "tool_call"])
def test_call_under_any_key_is_the_answer(key: str) -> None:
    messages = [user("a"), assistant("", **{key: [{"name": "f"}]}), {"role": "tool", "content": "1"}, assistant("b")]
    assert pairs({"messages": messages}) == WITH_CALL


def test_call_without_text_is_its_own_fields() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    assert pairs({"messages": [user("a"), call]}) == [("a", '{"name": "f", "arguments": "{}"}')]
    parts = [{"functionCall": {"name": "f", "args": {}}}]
    contents = [{"role": "user", "parts": [{"text": "a"}]}, {"role": "model", "parts": parts}]
    assert pairs({"contents": contents}) == [("a", json.dumps(parts))]


def test_conversation_of_parts_with_a_system_instruction_of_parts_is_read() -> None:
    row = {
        "systemInstruction": {"role": "system", "parts": [{"text": "s"}]},
        "contents": [{"role": "user", "parts": [{"text": "a"}]}, {"role": "model", "parts": [{"text": "b"}]}],
    }
    assert pairs(row) == [("s\n\na", "b")]


def test_context_and_tools_of_a_message_precede_it() -> None:
    assert pairs({"messages": [user("a", context="p"), assistant("b")]}) == [("p\n\na", "b")]
    assert pairs({"messages": [user("a", documents=[{"title": "t", "text": "p"}]), assistant("b")]}) == [
        ("t\np\n\na", "b")
    ]
    assert pairs({"messages": [user("a", tools=[{"name": "f"}]), assistant("b")]}) == [(f"{CALL}\n\na", "b")]


def test_texts_that_all_begin_with_a_role_are_turns_of_these_roles() -> None:
    assert pairs({"conversation": ["User: a", "Assistant: b", "User: c", "Assistant: d"]}) == TWO
    assert pairs({"conversation": ["System: s", "User: a", "Bot: b"]}) == [("s\n\na", "b")]
    assert pairs({"conversation": ["Note: a", "Fine: b"]}) == [("Note: a", "Fine: b")]


def test_system_text_of_the_history_comes_once() -> None:
    history = [{"role": "system", "content": "s"}, user("a"), assistant("b")]
    assert pairs({"system": "s", "history": history, "prompt": "c", "response": "d"}) == [
        ("s\n\n" + AFTER_B[0][0], "d")
    ]


def test_message_in_a_thinking_channel_is_no_answer() -> None:
    messages = [user("a"), assistant("hm", channel="analysis"), assistant("b", channel="final")]
    assert pairs({"messages": messages}) == [("a", "b")]


@pytest.mark.parametrize("role", ["Assistant:", "<|assistant|>", "[BOT]", "助手", "gpt-4o", "ai_assistant", "bot_1"])
def test_roles_may_have_marks_and_numbers(role: str) -> None:
    for asking in ("User:", "<|user|>", "用户", "human_1", "client", "question"):
        assert pairs({"messages": [{"role": asking, "content": "a"}, {"role": role, "content": "b"}]}) == [("a", "b")]


@pytest.mark.parametrize(
    "mark",
    [
        *(
            {"is_train": False},
            {"do_train": 0},
            {"use_for_training": "false"},
            {"in_loss": False},
            {"supervise": False},
        ),
        *({"train_weight": 0}, {"sample_weight": 0.0}, {"calc_loss": False}, {"masked_out": True}, {"mask_out": 1}),
        *({"context_only": True}, {"untrainable": "yes"}, {"no_loss": True}, {"dont_train": True}, {"skip_loss": 1}),
    ],
)
def test_marks_have_many_names(mark: dict[str, Any]) -> None:
    row = {"messages": [user("a"), assistant("b", **mark), user("c"), assistant("d")]}
    assert (pairs(row), dropped(row)) == (AFTER_B, [Outcome.NOT_TRAINED])


@pytest.mark.parametrize(
    "marks",
    [
        {"loss_weights": [0, 1]},
        {"weights": ["0", "1"]},
        {"train": [False, False, False, True]},
        {"loss_mask": "[0, 1]"},
        {"Masks": [1, 0]},
    ],
)
def test_lists_of_marks_have_many_names(marks: dict[str, Any]) -> None:
    row = {"messages": [user("a"), assistant("b"), user("c"), assistant("d")], **marks}
    assert (pairs(row), dropped(row)) == (AFTER_B, [Outcome.NOT_TRAINED])


def test_marks_on_parts_of_a_text_refuse_the_row() -> None:
    detail = [{"begin_offset": 0, "end_offset": 1, "train": False}]
    assert dropped({"messages": [user("a"), assistant("b", train_detail=detail)]}) == [Outcome.WRONG_TYPE]


@pytest.mark.parametrize(
    "text",
    [
        "USER: a ASSISTANT: b</s>USER: c ASSISTANT: d</s>",
        "<human>: a\n<bot>: b\n<human>: c\n<bot>: d",
        "[|Human|] a\n[|AI|] b\n[|Human|] c\n[|AI|] d\n",
        "<|user|>\na</s>\n<|assistant|>\nb</s>\n<|user|>\nc</s>\n<|assistant|>\nd</s>",
        "Human: a\n\nAI: b\n\nHuman: c\n\nAI: d",
        "<start_of_turn>user\na<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>\n<start_of_turn>user\nc<end_of_turn>\n"
        "<start_of_turn>model\nd<end_of_turn>",
    ],
)
def test_transcripts_have_marks_of_many_styles(text: str) -> None:
    markup = Markup()
    for preamble, head in (("", ""), ("A chat of two.\n", "A chat of two.\n\n")):
        found = pairs({"text": preamble + text})
        assert [(a, markup.strip(b, answer=True)) for a, b in found] == [(head + a, b) for a, b in TWO]


def test_text_before_the_first_mark_of_instructions_is_kept() -> None:
    text = "<s>[AVAILABLE_TOOLS] [] [/AVAILABLE_TOOLS][INST] a [/INST] b</s>"
    assert pairs({"text": text})[0][0] == "[AVAILABLE_TOOLS] [] [/AVAILABLE_TOOLS]\n\na"


def test_result_of_a_function_in_a_transcript_is_no_part_of_the_answer() -> None:
    chat = (
        'USER: a\n\n\nASSISTANT: <functioncall> {} <|endoftext|>\n\n\nFUNCTION RESPONSE: {"x": 1}\n\n\nASSISTANT: b\n'
    )
    assert pairs({"system": "s", "chat": chat}) == [
        ("s\n\na", "<functioncall> {} <|endoftext|>"),
        ('s\n\nUser: a\n\nAssistant: <functioncall> {}\n\nTool result: {"x": 1}', "b"),
    ]


# Prompts and responses


@pytest.mark.parametrize("prompt", [[user("a")], json.dumps([user("a")]), str([user("a")]), user("a")])
@pytest.mark.parametrize("completion", ["b", [assistant("b")], json.dumps([assistant("b")]), assistant("b")])
@pytest.mark.parametrize("name", ["completion", "response"])
def test_turns_may_be_json_text_or_one_message(prompt: Any, completion: Any, name: str) -> None:
    assert pairs({"prompt": prompt, name: completion}) == [("a", "b")]


def test_prompt_that_is_an_object_with_messages_keeps_its_tools() -> None:
    assert pairs({"prompt": {"messages": [user("a")], "tools": [{"name": "f"}]}, "completion": "b"}) == [
        (f"{CALL}\n\na", "b")
    ]


@pytest.mark.parametrize("answers", [[{"name": "f"}], json.dumps([{"name": "f"}])])
def test_calls_beside_tools_are_the_answer_as_json(answers: Any) -> None:
    assert pairs({"query": "a", "tools": [{"name": "f"}], "answers": answers}) == [(f"{CALL}\n\na", CALL)]
    calls = [{"f": {"x": [1]}}]
    row = {"question": [[user("a")]], "function": [{"name": "f"}], "ground_truth": calls}
    assert pairs(row) == [(f"{CALL}\n\na", json.dumps(calls))]


def test_tokens_beside_a_text_are_not_the_text() -> None:
    row = {"inputs": [1, 2], "inputs_pretokenized": "a", "targets": [3], "targets_pretokenized": "b"}
    assert pairs(row) == [("a", "b")]


def test_text_that_begins_as_json_is_a_text() -> None:
    for text in ("[1] is a list", "{x}", '{"a": 1}', "[]", '["a"]'):
        assert pairs({"instruction": text, "output": text}) == [(text, text)]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([{"text": "x", "answer_start": 0}, {"text": "x", "answer_start": 9}], ["x"]),
        ({"value": "x", "aliases": ["x", "y"]}, ["x"]),
        ("{'text': ['x'], 'answer_start': [0]}", ["x"]),
        ('["x", "y"]', ["x", "y"]),
        ([{"response": "x"}, {"response": "y"}], ["x", "y"]),
    ],
)
def test_answers_may_be_objects_or_json_text(answers: Any, expected: list[str]) -> None:
    assert pairs({"question": "q", "context": "p", "answers": answers}) == [("p\n\nq", text) for text in expected]


def test_array_as_numpy_prints_it_is_refused() -> None:
    assert dropped({"question": "q", "answers": "{'text': array(['x'], dtype=object)}"}) == [Outcome.WRONG_TYPE]


def test_blank_cell_gives_way_to_a_filled_twin() -> None:
    assert pairs({"question": "q", "response": "", "answer": "x"}) == [("q", "x")]
    assert pairs({"instruction": " ", "question": "q", "output": "x"})[0][1] == "x"


@pytest.mark.parametrize("name", ["example_input", "input_text", "user_input"])
def test_input_under_another_name_follows_the_instruction(name: str) -> None:
    assert pairs({"instruction": "a", "input": "", "output": "b", name: "i"}) == [("a\n\ni", "b")]


def test_table_keeps_its_rows() -> None:
    assert pairs({"question": "q", "table": [["a", "b"], [1, None]], "answer": "x"}) == [("a | b\n1 | \n\nq", "x")]


def test_sections_have_their_titles() -> None:
    context = [["t", ["One. ", "Two."]], ["u", ["Three."]]]
    assert pairs({"question": "q", "context": context, "answer": "x"}) == [("t\nOne. Two.\n\nu\nThree.\n\nq", "x")]
    assert pairs({"para": "p", "question": "q", "choices": ["x", "y"], "answer": "A"}) == [
        ("p\n\nq\n\nA. x\nB. y", "x")
    ]
    assert pairs({"instruction": "a", "generation": "b"}) == [("a", "b")]


def test_columns_of_two_speakers_are_a_pair() -> None:
    assert pairs({"system": "s", "user": "a", "assistant": "b"}) == [("s\n\na", "b")]
    assert pairs({"human": "a", "gpt": "b"}) == [("a", "b")]
    assert dropped({"user": "ann", "text": "b"}) == [Outcome.MISSING_FIELD]


# Reading


@pytest.mark.parametrize(
    "row",
    [
        {"questions": ["q", "r"], "options": [["x", "y"], ["z", "w"]], "answers": ["B", "A"]},
        {"questions": [{"question": "q", "options": ["x", "y"], "gold_label": 2},
                       {"question": "r", "options": ["z", "w"], "gold_label": 1}]},
        {"qas": [{"question": "q", "choices": ["x", "y"], "answer": "y"},
                 {"question": "r", "choice": ["z", "w"], "answer": "z"}]},
    ],
)  # fmt: skip
def test_questions_about_a_passage_have_their_options(row: dict[str, Any]) -> None:
    expected = [("p\n\nq\n\nA. x\nB. y", "y"), ("p\n\nr\n\nA. z\nB. w", "z")]
    assert pairs({"article": "p", **row}) == expected


@pytest.mark.parametrize(
    "row",
    [
        {"passage": "p", "questions": [{"question": "q", "answer": "x"}, {"question": "r", "answer": "y"}]},
        {"context": "p", "qa_pairs": [{"query": "q", "answers": ["x"]}, {"query": "r", "answers": [{"text": "y"}]}]},
        {"context": "p", "qas": {"question": ["q", "r"], "answer": ["x", "y"]}},
        {"paragraphs": [{"context": "p", "questions": [{"q": "q", "a": "x"}, {"q": "r", "a": "y"}]}]},
        {"passage": {"text": "p", "questions": [{"question": "q", "answers": [{"text": "no", "label": 0},
         {"text": "x", "label": 1}]}, {"question": "r", "answers": [{"text": "y", "label": 1}]}]}},
    ],
)  # fmt: skip
def test_questions_may_be_nested_with_their_answers(row: dict[str, Any]) -> None:
    assert pairs(row) == [("p\n\nq", "x"), ("p\n\nr", "y")]


# Multiple choice


@pytest.mark.parametrize(
    "more",
    [
        {"options": "1. x\n2. y", "answer": "2"},
        {"options": {"1": "x", "2": "y"}, "answer": 2},
        {"choices": {"text": ["x", "y"], "label": [1, 2]}, "answerKey": 2},
        {"options": [["A", "x"], ["B", "y"]], "answer": "B"},
        {"options": [{"option_id": "A", "option_text": "x"}, {"option_id": "B", "option_text": "y"}], "answer": "B"},
        {"options": [{"option": "A", "text": "x"}, {"option": "B", "text": "y"}], "answer": "B"},
        {"choices": [{"answer_text": "x", "correct": 0}, {"answer_text": "y", "correct": 1}]},
        {"answers": [{"text": "x", "is_correct": False}, {"text": "y", "is_correct": True}]},
        {"target_scores": {"x": 0, "y": 1}},
        {"options/A": "x", "options/B": "y", "answer": "B"},
        {"options.A": "x", "options.B": "y", "answer": "B"},
        {"(A)": "x", "(B)": "y", "answer": "B"},
        {"choices_0": "x", "choices_1": "y", "answer": 1},
        {"1": "x", "2": "y", "answer": 2},
        {"option_a": "x", "option_b": "y", "answer": "option_b"},
        {"opa": "x", "opb": "y", "answer": "opb"},
        {"options": ["x", "y"], "label": "1.0"},
        {"options": ["x", "y"], "answer": "The correct answer is B."},
        {"options": ["x", "y"], "answer": "\\boxed{B}"},
        {"options": ["x", "y"], "gold_label": "B"},
        {"options": ["x", "y"], "correct_letter": "B"},
        {"options": ["x", "y"], "solution": "B"},
        {"choices": ["x", "y"], "target": 1},
        {"options": ["x", "y"], "ans": "y"},
    ],
)  # fmt: skip
def test_options_and_right_ones_have_other_shapes(more: dict[str, Any]) -> None:
    assert pairs({"question": "q", **more}) == [("q\n\nA. x\nB. y", "y")]


@pytest.mark.parametrize("question", ["q\nA. x\nB. y", "q\n(A) x\n(B) y", "q\nA) x\nB) y", "q\nA: x\nB: y"])
def test_options_that_the_question_has_already_are_not_repeated(question: str) -> None:
    assert pairs({"question": question, "A": "x", "B": "y", "answer": "B"}) == [(question, "y")]


def test_a_mark_for_each_option_may_mark_several() -> None:
    row = {"question": "q", "options": ["x", "y", "z"], "label": [1, 0, 1]}
    assert pairs(row)[0][1] == "x\nz"
    assert dropped(row | {"label": [0, 0, 0]}) == [Outcome.NO_PAIR]
    assert pairs(row | {"label": "A and C"})[0][1] == "x\nz"


def test_text_of_an_option_that_begins_with_a_letter_is_no_letter() -> None:
    row = {"question": "q", "options": ["a cat", "a dog"], "answer": "A dog."}
    assert pairs(row)[0][1] == "a dog"
    assert dropped(row | {"answer": "A. a dog"}) == [Outcome.WRONG_TYPE]
    assert dropped(row | {"answer": "A bird"}) == [Outcome.WRONG_TYPE]


def test_instruction_and_input_beside_options_are_kept() -> None:
    options = {"options": ["x", "y"], "answer": "B"}
    assert pairs({"instruction": "i", "input": "q", **options}) == [("i\n\nq\n\nA. x\nB. y", "y")]
    assert pairs({"instruction": "i", "question": "q", "passage": "p", **options}) == [
        ("i\n\np\n\nq\n\nA. x\nB. y", "y")
    ]


# Labels and preferences


@pytest.mark.parametrize(
    "label",
    [
        *({"feedback": "bad"}, {"thumb": "down"}, {"vote": -1}, {"chosen": False}, {"rejected": True}, {"is_bad": 1}),
        *({"correct": False}, {"binary_label": 0}, {"human_label": "bad"}, {"preference": False}, {"quality": "bad"}),
        *({"passed": False}, {"label": "un-desirable"}, {"label": "0.0"}, {"accepted": "no"}, {"verdict": "incorrect"}),
    ],
)
def test_answer_marked_as_bad_under_another_name_is_no_pair(label: dict[str, Any]) -> None:
    for row in ({"prompt": "a", "completion": "b"}, {"messages": [user("a"), assistant("b")]}):
        assert dropped(row | label) == [Outcome.REJECTED_LABEL]


@pytest.mark.parametrize(
    "other",
    [
        {"feedback": "Thanks, this helped."},
        {"vote": 3},
        {"quality": 4},
        {"is_bad": False},
        {"chosen": True},
        {"feedback": "good"},
    ],
)
def test_other_values_of_such_columns_exclude_nothing(other: dict[str, Any]) -> None:
    assert pairs({"prompt": "a", "completion": "b", **other}) == [("a", "b")]


@pytest.mark.parametrize(
    "row",
    [
        {"problem": "a", "solution": "s", "generations": ["x", "b"], "correctness_math_verify": [False, True]},
        {"prompt": "a", "responses": ["x", "b"], "labels": [0, 1]},
        {"prompt": "a", "completions": [{"text": "x", "label": False}, {"text": "b", "label": True}]},
        {"prompt": "a", "responses": [{"response": "x", "is_correct": "no"}, {"response": "b", "is_correct": "yes"}]},
    ],
)
def test_of_several_labelled_answers_the_bad_ones_are_dropped_by_name(row: dict[str, Any]) -> None:
    assert (pairs(row), dropped(row)) == ([("a", "b")], [Outcome.REJECTED_LABEL])


def test_each_good_answer_is_a_pair() -> None:
    row = {"system": "s", "prompt": "a", "responses": ["b", "x", "c"], "labels": [True, False, True]}
    assert pairs(row) == [("s\n\na", "b"), ("s\n\na", "c")]
    assert [item.part for item in adapt(row).dropped] == [1]


@pytest.mark.parametrize(
    "row",
    [
        {"responses": ["x", "b"], "chosen": 1},
        {"candidates": ["x", "b"], "chosen": 1, "rejected": 0},
        {"responses": ["x", "b"], "best_index": "1"},
        {"responses": ["x", "b"], "preference": "B"},
        {"responses": ["x", "b"], "quality_scores": [1, 5]},
        {"answers": [{"text": "x", "likes": 1}, {"text": "b", "likes": 5}]},
        {"answers": {"text": ["x", "b"], "score": [1, 5]}},
        {"completions": {"response": ["x", "b"], "rank": [2, 1]}},
        {"chosen": {"role": ["assistant"], "content": ["b"]}, "rejected": {"role": ["assistant"], "content": ["x"]}},
        {"response_j": "b", "response_k": "x"},
        {"response_w": "b", "response_l": "x"},
        {"win": "b", "lose": "x"},
        {"preferred_response": "b", "rejected_response": "x"},
        {"chosen_completion": "b", "rejected_completion": "x"},
        {"response_1": "x", "response_2": "b", "preference_strength": 2},
        {"response_a": "x", "response_b": "b", "winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0},
        {"response_1": "x", "response_2": "b", "response_1_score": 1, "response_2_score": 5},
        {"chosen": assistant("b"), "rejected": assistant("x")},
        {"chosen": json.dumps([user("a"), assistant("b")]), "rejected": json.dumps([user("a"), assistant("x")])},
    ],
)
def test_worse_answer_is_dropped_by_name(row: dict[str, Any]) -> None:
    found = adapt({"prompt": "a", **row})
    assert [tuple(draft) for draft in found.drafts] == [("a", "b")]
    assert [(item.part, item.outcome) for item in found.dropped] == [(1, Outcome.OUTRANKED)]


def test_index_that_may_count_from_0_or_1_is_refused() -> None:
    assert dropped({"prompt": "a", "responses": ["x", "b"], "preference": 1}) == [Outcome.WRONG_TYPE]


def test_several_exchanges_as_json_text_are_turns() -> None:
    row = {"prompt": '["a", "c"]', "response_a": '["x", "y"]', "response_b": '["b", "d"]', "winner": "model_b"}
    assert pairs(row) == TWO


def test_worse_answers_of_a_tree_are_dropped_by_name() -> None:
    replies = [{"text": text, "role": "assistant", "rank": rank, "replies": []} for rank, text in enumerate("bxy")]
    row = {"prompt": {"text": "a", "role": "prompter", "replies": replies}}
    assert (pairs(row), dropped(row)) == ([("a", "b")], [Outcome.OUTRANKED] * 2)


# Names of context


@pytest.mark.parametrize(
    "name",
    [
        *("persona", "docs", "excerpt", "references", "search_results", "passage_1", "context2", "gold_context"),
        *(
            "context_text",
            "retrievedPassages",
            "source_document",
            "pre_text",
            "create_table_statement",
            "goldParagraph",
        ),
    ],
)
def test_column_of_context_under_another_name_is_named(name: str) -> None:
    assert context_columns(["question", name, "answer"]) == [name]


@pytest.mark.parametrize(
    "name",
    ["context_id", "document_title", "history_length", "has_context", "num_passages", "passageUrl", "contextual"],
)
def test_column_about_a_text_is_no_context(name: str) -> None:
    assert context_columns(["question", name, "answer"]) == []
