"""Public layouts, written out small: the pairs of each equal a written expectation, text by text."""

import json
import random
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from corpus.adapters import ADAPTERS, guess
from corpus.adapters.base import MARKUP_KEY
from corpus.formats.base import RowError
from corpus.markup import Markup


class Layout(NamedTuple):
    """One row, or several, of a public layout and their pairs."""

    family: str
    adapter: str
    rows: tuple[dict[str, Any], ...]
    pairs: list[tuple[str, str]]
    unused: frozenset[str] = frozenset()
    """Columns that no pair is made from."""


def layout(
    family: str, adapter: str, row: dict[str, Any] | list[dict[str, Any]], *pairs: tuple[str, str], unused: str = ""
) -> Layout:
    rows = (row,) if isinstance(row, dict) else tuple(row)
    return Layout(family, adapter, rows, list(pairs), frozenset(unused.split()))


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


CALL = {"name": "tide", "arguments": {"port": "Brest"}}
CALL_TEXT = '{"name": "tide", "arguments": {"port": "Brest"}}'
TIDE = [{"name": "tide", "description": "Time of high tide"}]
TIDE_TEXT = '[{"name": "tide", "description": "Time of high tide"}]'

LAYOUTS = [
    # Instructions
    layout("Alpaca", "pairs", {"instruction": "Add.", "input": "1 2", "output": "3"}, ("Add.\n\n1 2", "3")),
    layout(
        "Alpaca with system and history",
        "pairs",
        {
            "instruction": "And the second?",
            "input": "Answer briefly.",
            "output": "12 m.",
            "system": "Use metres.",
            "history": [["How long is the first bridge?", "9 m."], ["Sure?", "Yes."]],
        },
        (
            "Use metres.\n\nUser: How long is the first bridge?\n\nAssistant: 9 m.\n\nUser: Sure?\n\nAssistant: Yes."
            "\n\nUser: And the second?\n\nAnswer briefly.",
            "12 m.",
        ),
    ),
    layout(
        "history as turns",
        "pairs",
        {"prompt": "c", "response": "d", "history": [turn("user", "a"), turn("assistant", "b")]},
        ("User: a\n\nAssistant: b\n\nUser: c", "d"),
    ),
    layout(
        "history as JSON text",
        "pairs",
        {"instruction": "c", "output": "d", "history": '[["a", "b"]]', "system": ""},
        ("User: a\n\nAssistant: b\n\nUser: c", "d"),
    ),
    layout(
        "OpenOrca",
        "pairs",
        {"id": "flan.1", "system_prompt": "Be a pirate.", "question": "How are you?", "response": "Arr."},
        ("Be a pirate.\n\nHow are you?", "Arr."),
        unused="id",
    ),
    layout(
        "Dolly",
        "pairs",
        {"instruction": "When?", "context": "It was in 1969.", "response": "1969", "category": "closed_qa"},
        ("When?\n\nIt was in 1969.", "1969"),
        unused="category",
    ),
    layout("Firefly", "pairs", {"kind": "Couplet", "input": "春", "target": "秋"}, ("春", "秋"), unused="kind"),
    layout(
        "BELLE",
        "pairs",
        {"instruction": "你好\n", "input": "", "output": "您好"},
        ("你好\n", "您好"),
    ),
    # Reading
    layout(
        "SQuAD",
        "pairs",
        {
            "id": "1",
            "title": "Ann",
            "context": "Ann won in May.",
            "question": "Who won?",
            "answers": {"text": ["Ann"], "answer_start": [0]},
        },
        ("Ann won in May.\n\nWho won?", "Ann"),
        unused="id title",
    ),
    layout(
        "SQuAD, nested",
        "reading",
        {
            "title": "Ann",
            "paragraphs": [
                {
                    "context": "Ann won in May.",
                    "qas": [
                        {"id": "1", "question": "Who won?", "answers": [{"text": "Ann", "answer_start": 0}]},
                        {"id": "2", "question": "Who lost?", "answers": [], "is_impossible": True},
                        {"id": "3", "question": "When?", "answers": [{"text": "May"}, {"text": "in May"}]},
                    ],
                }
            ],
        },
        ("Ann won in May.\n\nWho won?", "Ann"),
        ("Ann won in May.\n\nWhen?", "May"),
        unused="title",
    ),
    layout(
        "CoQA",
        "reading",
        {
            "source": "mctest",
            "story": "Ann has a cat.",
            "questions": [{"input_text": "Who?", "turn_id": 1}, {"input_text": "Has what?", "turn_id": 2}],
            "answers": [
                {"input_text": "Ann", "span_text": "Ann has", "turn_id": 1},
                {"input_text": "A cat", "span_text": "a cat", "turn_id": 2},
            ],
        },
        ("Ann has a cat.\n\nWho?", "Ann"),
        ("Ann has a cat.\n\nUser: Who?\n\nAssistant: Ann\n\nUser: Has what?", "A cat"),
        unused="source",
    ),
    layout(
        "CoQA, lists",
        "reading",
        {"story": "Ann has a cat.", "questions": ["Who?"], "answers": {"input_text": ["Ann"], "answer_end": [3]}},
        ("Ann has a cat.\n\nWho?", "Ann"),
    ),
    layout(
        "QuAC",
        "reading",
        {
            "paragraphs": [
                {
                    "context": "Ann sang.",
                    "qas": [
                        {"question": "Who?", "answers": [{"text": "Ann"}], "followup": "y", "yesno": "x"},
                        {"question": "Where?", "orig_answer": {"text": "CANNOTANSWER"}, "followup": "n"},
                        {"question": "What?", "orig_answer": {"text": "sang"}, "followup": "n"},
                    ],
                }
            ]
        },
        ("Ann sang.\n\nWho?", "Ann"),
        (
            "Ann sang.\n\nUser: Who?\n\nAssistant: Ann\n\nUser: Where?\n\nAssistant: CANNOTANSWER\n\nUser: What?",
            "sang",
        ),
    ),
    layout(
        "HotpotQA",
        "pairs",
        {
            "question": "Who?",
            "answer": "Ann",
            "context": {"title": ["A", "B"], "sentences": [["One. ", "Two."], ["Three."]]},
            "level": "hard",
        },
        ("A\nOne. Two.\n\nB\nThree.\n\nWho?", "Ann"),
        unused="level",
    ),
    layout(
        "PubMedQA",
        "pairs",
        {"question": "Does it?", "context": {"contexts": ["One.", "Two."], "labels": ["A", "B"]}, "answer": "yes"},
        ("One.\n\nTwo.\n\nDoes it?", "yes"),
    ),
    # Multiple choice
    layout(
        "CMMLU",
        "choices",
        {"Question": "Largest?", "A": "1", "B": "2", "C": "3", "D": "4", "Answer": "D"},
        ("Largest?\n\nA. 1\nB. 2\nC. 3\nD. 4", "4"),
    ),
    layout(
        "MMLU",
        "choices",
        {"question": "Largest?", "subject": "sums", "choices": ["w", "x", "y", "z"], "answer": 1},
        ("Largest?\n\nA. w\nB. x\nC. y\nD. z", "x"),
        unused="subject",
    ),
    layout(
        "ARC",
        "choices",
        {"id": "1", "question": "Grass?", "choices": {"text": ["red", "green"], "label": ["1", "2"]}, "answerKey": "2"},
        ("Grass?\n\nA. red\nB. green", "green"),
        unused="id",
    ),
    layout(
        "ARC, as published",
        "choices",
        {
            "question": {"stem": "Grass?", "choices": [{"text": "red", "label": "A"}, {"text": "green", "label": "B"}]},
            "answerKey": "B",
        },
        ("Grass?\n\nA. red\nB. green", "green"),
    ),
    layout(
        "RACE",
        "choices",
        {
            "article": "Ann ran.",
            "question": "Who ran?",
            "options": ["Bob", "Ann"],
            "answer": "B",
            "example_id": "h",
        },
        ("Ann ran.\n\nWho ran?\n\nA. Bob\nB. Ann", "Ann"),
        unused="example_id",
    ),
    layout(
        "LogiQA",
        "choices",
        {"context": "All men die.", "query": "So?", "options": ["No", "Ann dies"], "correct_option": 1},
        ("All men die.\n\nSo?\n\nA. No\nB. Ann dies", "Ann dies"),
    ),
    layout(
        "ReClor",
        "choices",
        {"context": "All men die.", "question": "So?", "answers": ["no", "yes"], "label": 1, "id_string": "t"},
        ("All men die.\n\nSo?\n\nA. no\nB. yes", "yes"),
        unused="id_string",
    ),
    layout(
        "MedQA",
        "choices",
        {"question": "Fever?", "answer": "Aspirin", "options": {"A": "Water", "B": "Aspirin"}, "answer_idx": "B"},
        ("Fever?\n\nA. Water\nB. Aspirin", "Aspirin"),
    ),
    layout(
        "MedMCQA",
        "choices",
        {"id": "1", "question": "Fever?", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": 2, "exp": "why"},
        ("Fever?\n\nA. a\nB. b\nC. c\nD. d", "c"),
        unused="id exp",
    ),
    layout(
        "HellaSwag",
        "choices",
        {
            "ctx": "He sits and",
            "ctx_a": "He sits",
            "endings": ["flies", "rests"],
            "label": "1",
            "activity_label": "Rest",
        },
        ("He sits and\n\nA. flies\nB. rests", "rests"),
        unused="ctx_a activity_label",
    ),
    layout(
        "WinoGrande",
        "choices",
        [
            {"sentence": "_ was late.", "option1": "Ann", "option2": "Bob", "answer": "1"},
            {"sentence": "_ was early.", "option1": "Ann", "option2": "Bob", "answer": "2"},
        ],
        ("_ was late.\n\nA. Ann\nB. Bob", "Ann"),
        ("_ was early.\n\nA. Ann\nB. Bob", "Bob"),
    ),
    layout(
        "Social IQa",
        "choices_from_1",
        [
            {"context": "C.", "question": "Q?", "answerA": "x", "answerB": "y", "answerC": "z", "label": 1},
            {"context": "C.", "question": "Q?", "answerA": "x", "answerB": "y", "answerC": "z", "label": 3},
        ],
        ("C.\n\nQ?\n\nA. x\nB. y\nC. z", "x"),
        ("C.\n\nQ?\n\nA. x\nB. y\nC. z", "z"),
    ),
    layout(
        "COPA",
        "choices",
        {"premise": "It rained.", "choice1": "Sun", "choice2": "Wet", "question": "effect", "label": 1},
        ("It rained.\n\neffect\n\nA. Sun\nB. Wet", "Wet"),
    ),
    layout(
        "AQuA",
        "choices",
        {"question": "2 + 2?", "options": ["A)3", "B)4"], "rationale": "Add.", "correct": "B"},
        ("2 + 2?\n\nA. 3\nB. 4", "4"),
        unused="rationale",
    ),
    # Conversations
    layout(
        "ShareGPT",
        "chat",
        {"id": "1", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        ("a", "b"),
        unused="id",
    ),
    layout(
        "OpenAI with functions",
        "chat",
        {
            "messages": [
                turn("system", "Be kind."),
                turn("user", "Tide?"),
                turn("assistant", None, function_call=CALL),
                turn("function", "11:40", name="tide"),
                turn("assistant", "At 11:40."),
            ],
            "functions": TIDE,
        },
        (f"{TIDE_TEXT}\n\nBe kind.\n\nTide?", CALL_TEXT),
        (
            f"{TIDE_TEXT}\n\nBe kind.\n\nUser: Tide?\n\nTool call: {CALL_TEXT}\n\nTool result: 11:40",
            "At 11:40.",
        ),
    ),
    layout(
        "Hermes function calling",
        "chat",
        {
            "conversations": [
                {"from": "system", "value": "Tools: tide"},
                {"from": "human", "value": "Tide?"},
                {"from": "gpt", "value": f"<tool_call>{CALL_TEXT}</tool_call>"},
                {"from": "tool", "value": "<tool_response>11:40</tool_response>"},
                {"from": "gpt", "value": "At 11:40."},
            ]
        },
        ("Tools: tide\n\nTide?", f"<tool_call>{CALL_TEXT}</tool_call>"),
        (
            f"Tools: tide\n\nUser: Tide?\n\nAssistant: <tool_call>{CALL_TEXT}</tool_call>\n\n"
            "Tool result: <tool_response>11:40</tool_response>",
            "At 11:40.",
        ),
    ),
    layout(
        "xLAM",
        "pairs",
        {"id": 1, "query": "Tide?", "tools": json.dumps(TIDE), "answers": f"[{CALL_TEXT}]"},
        (f"{TIDE_TEXT}\n\nTide?", f"[{CALL_TEXT}]"),
        unused="id",
    ),
    layout(
        "BFCL",
        "pairs",
        {"id": "simple_0", "question": [[turn("user", "Tide?")]], "function": TIDE, "ground_truth": CALL_TEXT},
        (f"{TIDE_TEXT}\n\nTide?", CALL_TEXT),
        unused="id",
    ),
    layout(
        "Nemotron",
        "pairs",
        {"input": [turn("user", "a")], "output": "b", "system_prompt": "detailed thinking off", "category": "math"},
        ("detailed thinking off\n\na", "b"),
        unused="category",
    ),
    layout(
        "UltraChat",
        "chat",
        {"id": "0", "data": ["a", "b", "c", "d"]},
        ("a", "b"),
        ("User: a\n\nAssistant: b\n\nUser: c", "d"),
        unused="id",
    ),
    layout(
        "MOSS",
        "chat",
        {
            "conversation_id": 1,
            "meta_instruction": "You are MOSS.",
            "chat": {
                "turn_1": {
                    "Human": "<|Human|>: a<eoh>\n",
                    "Inner Thoughts": "<|Inner Thoughts|>: None<eot>\n",
                    "Commands": "<|Commands|>: None<eoc>\n",
                    "Tool Responses": "<|Results|>: None<eor>\n",
                    "MOSS": "<|MOSS|>: b<eom>\n",
                }
            },
        },
        ("You are MOSS.\n\na", "b"),
        unused="conversation_id",
    ),
    layout(
        "turns keyed by role",
        "chat",
        {"conversation": [{"human": "a", "assistant": "b"}, {"human": "c", "assistant": "d"}]},
        ("a", "b"),
        ("User: a\n\nAssistant: b\n\nUser: c", "d"),
    ),
    layout(
        "OpenAssistant tree",
        "tree",
        {
            "message_tree_id": "t",
            "prompt": {
                "text": "a",
                "role": "prompter",
                "replies": [
                    {"text": "worse", "role": "assistant", "rank": 1, "replies": []},
                    {
                        "text": "b",
                        "role": "assistant",
                        "rank": 0,
                        "replies": [
                            {
                                "text": "c",
                                "role": "prompter",
                                "replies": [{"text": "d", "role": "assistant", "rank": 0, "replies": []}],
                            }
                        ],
                    },
                ],
            },
        },
        ("a", "b"),
        ("User: a\n\nAssistant: b\n\nUser: c", "d"),
        unused="message_tree_id",
    ),
    layout(
        "Guanaco",
        "transcript",
        {"text": "### Human: a### Assistant: b### Human: c### Assistant: d"},
        ("a", "b"),
        ("User: a\n\nAssistant: b\n\nUser: c", "d"),
    ),
    layout(
        "Llama 2 transcript",
        "transcript",
        {"text": "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\na [/INST] b </s><s>[INST] c [/INST] d </s>"},
        ("Be kind.\n\na", "b </s>"),
        ("Be kind.\n\nUser: a\n\nAssistant: b\n\nUser: c", "d </s>"),
    ),
    layout(
        "ChatML transcript",
        "transcript",
        {
            "text": "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\na<|im_end|>\n"
            "<|im_start|>assistant\nb<|im_end|>\n"
        },
        ("Be kind.\n\na", "b<|im_end|>"),
    ),
    layout(
        "Alpaca in a template",
        "transcript",
        {"text": "Below is a task.\n\n### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n3"},
        ("Below is a task.\n\nAdd.\n\n### Input:\n1 2", "3"),
    ),
    layout(
        "pairs with a copy in a template",
        "pairs",
        {"question": "Who won?", "answer": "Ann", "text": "Question: Who won?\nAnswer: Ann"},
        ("Who won?", "Ann"),
        unused="text",
    ),
    layout(
        "LogiQA 2",
        "choices",
        {"id": 1, "text": "All men die.", "question": "So?", "options": ["No", "Ann dies"], "answer": 1},
        ("All men die.\n\nSo?\n\nA. No\nB. Ann dies", "Ann dies"),
        unused="id",
    ),
    layout(
        "DREAM",
        "choices",
        {"dialogue": ["M: Hi.", "W: Bye."], "question": "Who left?", "choice": ["M", "W"], "answer": "W"},
        ("M: Hi.\n\nW: Bye.\n\nWho left?\n\nA. M\nB. W", "W"),
    ),
    layout(
        "Capybara",
        "chat",
        {"source": "x", "conversation": [{"input": "a", "output": "b"}, {"input": "c", "output": "d"}]},
        ("a", "b"),
        ("User: a\n\nAssistant: b\n\nUser: c", "d"),
        unused="source",
    ),
    # Preferences
    layout(
        "HelpSteer3",
        "dpo",
        {"context": [turn("user", "a")], "response1": "b", "response2": "x", "overall_preference": -2, "domain": "d"},
        ("a", "b"),
        unused="domain",
    ),
    layout(
        "Stanford Human Preferences",
        "dpo",
        {"history": "a", "human_ref_A": "x", "human_ref_B": "b", "labels": 0, "score_A": 1, "score_B": 4},
        ("a", "b"),
        unused="labels",
    ),
    layout(
        "Chatbot Arena",
        "dpo",
        {
            "winner": "model_b",
            "conversation_a": [turn("user", "a"), turn("assistant", "x")],
            "conversation_b": [turn("user", "a"), turn("assistant", "b")],
        },
        ("a", "b"),
    ),
    layout(
        "Nectar",
        "ranked",
        {
            "prompt": "\n\nHuman: a\n\nAssistant: ",
            "answers": [{"answer": "x", "rank": 2.0}, {"answer": "b", "rank": 1.0}],
        },
        ("a", "b"),
    ),
    layout(
        "WebGPT comparisons",
        "dpo",
        {"question": {"full_text": "a"}, "answer_0": "x", "answer_1": "b", "score_0": -1.0, "score_1": 1.0},
        ("a", "b"),
    ),
    layout(
        "TRL prompt and completion",
        "pairs",
        {"prompt": [turn("system", "s"), turn("user", "a")], "completion": [turn("assistant", "b")]},
        ("s\n\na", "b"),
    ),
    layout(
        "TRL preference",
        "dpo",
        {"prompt": [turn("user", "a")], "chosen": [turn("assistant", "b")], "rejected": [turn("assistant", "x")]},
        ("a", "b"),
    ),
    layout(
        "UltraFeedback, binarized",
        "dpo",
        {
            "prompt": "a",
            "messages": [turn("user", "a"), turn("assistant", "b")],
            "chosen": [turn("user", "a"), turn("assistant", "b")],
            "rejected": [turn("user", "a"), turn("assistant", "x")],
            "score_chosen": 8.0,
        },
        ("a", "b"),
        unused="score_chosen",
    ),
    layout(
        "UltraFeedback",
        "ranked",
        {
            "source": "evol",
            "instruction": "a",
            "completions": [
                {"model": "m", "response": "x", "overall_score": 3.0},
                {"model": "n", "response": "b", "overall_score": 8.5},
                {"model": "o", "response": "y", "overall_score": 8.5},
            ],
        },
        ("a", "b"),
        unused="source",
    ),
    layout(
        "UltraFeedback annotations",
        "ranked",
        {
            "instruction": "a",
            "completions": [
                {"response": "x", "annotations": {"honesty": {"Rating": "2"}, "truth": {"Rating": "N/A"}}},
                {"response": "b", "annotations": {"honesty": {"Rating": "5"}, "truth": {"Rating": "4"}}},
            ],
        },
        ("a", "b"),
    ),
    layout(
        "ranked responses",
        "ranked",
        {"prompt": "a", "responses": ["x", "b"], "rank": [2, 1]},
        ("a", "b"),
    ),
    layout(
        "HH-RLHF",
        "dpo",
        {
            "chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d",
            "rejected": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: x",
        },
        ("User: a\n\nAssistant: b\n\nUser: c", "d"),
    ),
    layout(
        "PKU-SafeRLHF",
        "dpo",
        {"prompt": "a", "response_0": "x", "response_1": "b", "better_response_id": 1, "is_response_0_safe": False},
        ("a", "b"),
        unused="is_response_0_safe",
    ),
    layout(
        "AlpacaFarm",
        "dpo",
        {"instruction": "a", "input": "i", "output_1": "b", "output_2": "x", "preference": 1},
        ("a\n\ni", "b"),
    ),
    layout(
        "OpenAI preference",
        "dpo",
        {
            "input": {"messages": [turn("user", "a")], "tools": []},
            "preferred_output": [turn("assistant", "b")],
            "non_preferred_output": [turn("assistant", "x")],
        },
        ("a", "b"),
    ),
    layout(  # the messages repeat an answer, which must not become part of the prompt
        "OpenR1-Math",
        "labelled",
        {
            "problem": "a",
            "solution": "s",
            "answer": "b",
            "generations": ["x", "b"],
            "correctness_math_verify": [False, True],
            "messages": [turn("user", "a"), turn("assistant", "b")],
        },
        ("a", "b"),
        unused="problem solution answer",
    ),
    layout(
        "messages with an answer beside ranked answers",
        "ranked",
        {
            "messages": [turn("user", "a"), turn("assistant", "c"), turn("user", "d"), turn("assistant", "x")],
            "responses": ["x", "b"],
            "scores": [1, 2],
        },
        ("User: a\n\nAssistant: c\n\nUser: d", "b"),
    ),
    layout(
        "history with the current question and answer",
        "pairs",
        {"history": [["a", "b"], ["c", "d"]], "instruction": "c", "output": "d"},
        ("User: a\n\nAssistant: b\n\nUser: c", "d"),
    ),
    layout(
        "history with the current question",
        "pairs",
        {"history": [turn("user", "a"), turn("assistant", "b"), turn("user", "c")], "question": "c", "answer": "d"},
        ("User: a\n\nAssistant: b\n\nUser: c", "d"),
    ),
    layout(
        "history in which the question had another answer",
        "pairs",
        {"history": [["c", "b"]], "question": "c", "answer": "d"},
        ("User: c\n\nAssistant: b\n\nUser: c", "d"),
    ),
    layout(
        "Infinity-Instruct",
        "chat",
        {
            "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}],
            "label": {"ability_en": ["x"]},
            "reward": 1.5,
        },
        ("a", "b"),
        unused="label reward",
    ),
    layout(
        "refusal of OpenAI's chat completions",
        "chat",
        {"messages": [turn("user", "a"), turn("assistant", None, refusal="b")]},
        ("a", "b"),
    ),
    layout("KTO", "kto", {"prompt": "a", "completion": "b", "label": True}, ("a", "b")),
    layout(
        "KTO in LLaMA-Factory",
        "kto",
        {"messages": [turn("user", "a"), turn("assistant", "b")], "kto_tag": True},
        ("a", "b"),
    ),
]


def adapted(found: Layout) -> tuple[list[tuple[str, str]], set[str]]:
    context: Mapping[str, Any] = {MARKUP_KEY: Markup()}
    name = guess(found.rows, context)
    assert name == found.adapter
    results = [ADAPTERS[name].adapt(row, context) for row in found.rows]
    used = {column for result in results for column in result.used}
    return [tuple(draft) for result in results for draft in result.drafts], used


@pytest.mark.parametrize("found", LAYOUTS, ids=lambda found: found.family)
def test_public_layout_yields_the_written_pairs_and_names_the_columns_it_used(found: Layout) -> None:
    pairs, used = adapted(found)
    assert pairs == found.pairs
    assert {column for row in found.rows for column in row} - used == found.unused


NASTY: tuple[Any, ...] = (
    *(None, True, 0, -1, 3, 1.5, float("nan"), float("inf"), 10**400, b"x"),
    *("", "a", "A", "1", "[", "[1, 2]", '{"a": [1]}', "\ud800", "[INST] a", "### Human: a", "<think>a"),
    *([], {}, [[]], [None], [[["a"]]], ["a", 1], [{}], {"a": {}}, {"text": []}, {"role": "user"}, [{"role": []}]),
)


def damaged(value: Any, draw: random.Random) -> Any:
    """Return a copy of a JSON value in which one value is replaced, removed or repeated."""
    if draw.random() < 0.25 or not isinstance(value, dict | list) or not value:
        return draw.choice(NASTY)
    copy = value.copy()
    key = draw.choice(list(copy)) if isinstance(copy, dict) else draw.randrange(len(copy))
    change = draw.random()
    if change < 0.1:
        del copy[key]
    elif change < 0.2 and isinstance(copy, list):
        copy.insert(key, copy[key])
    else:
        copy[key] = damaged(copy[key], draw)
    return copy


@pytest.mark.parametrize("seed", range(3))
def test_damaged_rows_yield_answers_or_a_row_error_and_nothing_else(seed: int) -> None:
    draw = random.Random(seed)
    context: Mapping[str, Any] = {MARKUP_KEY: Markup()}
    read = 0
    for _ in range(4000):
        row = draw.choice(draw.choice(LAYOUTS).rows)
        for _ in range(draw.randint(1, 3)):
            row = damaged(row, draw)
            if not isinstance(row, dict):
                row = {"messages": row}
        name = guess([row], context) or "pairs"
        try:
            found = ADAPTERS[name].adapt(row, context)
        except RowError:
            continue
        read += 1
        assert found.drafts or found.dropped
        assert all(type(text) is str for draft in found.drafts for text in draft)
        parts = {item.part for item in found.dropped}
        assert len(parts) == len(found.dropped)
        assert all(part < len(found.drafts) + len(parts) for part in parts)
    assert read > 500
