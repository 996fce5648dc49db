"""Prompts and verdicts of the tasks, against expectations written by hand from the published protocol."""

import importlib.util
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.trainer.benchmarks.fixtures import read, write_rows
from trainer.benchmarks import choice, numeric
from trainer.benchmarks.catalog import BUILT_IN, PAPER, find
from trainer.benchmarks.files import TaskDataError
from trainer.benchmarks.task import PUBLISHED, Question
from trainer.benchmarks.tasks import bbh, competition_math, drop, gsm8k, mmlu_pro


def number(answer: object) -> Question:
    return Question(id="0", text="How many?", answer=answer)


def test_conditions_contexts_shots_and_sizes_are_the_published_ones() -> None:
    cot, direct = ("synth", "cot"), ("direct",)
    expected = {
        "gsm8k": (cot, 3072, 0, 1319, None, "accuracy", False),
        "math": (cot, 3072, 0, 5000, None, "accuracy", False),
        "drop": (direct, 3072, 3, 9536, None, "f1", False),
        "mmlu": (direct, 4096, 5, 14_042, 1, "accuracy", True),
        "arc_c": (direct, 4096, 25, 1172, 1, "accuracy", False),
        "hellaswag": (direct, 4096, 10, 10_042, 1, "accuracy", False),
        "winogrande": (direct, 4096, 5, 1267, 1, "accuracy", False),
        "boolq": (direct, 4096, 5, 3270, 1, "accuracy", False),
    }
    assert list(expected) == list(PAPER)
    for name, row in expected.items():
        t = find(name).task
        assert (t.conditions, t.context, t.shots, t.size, t.max_new_tokens, t.metric, t.mean_over_groups) == row
        assert t.protocol == PUBLISHED


def test_each_task_has_the_name_it_is_found_by() -> None:
    assert [find(name).task.name for name in BUILT_IN] == list(BUILT_IN)


class TestGsm8k:
    def test_prompt_is_the_bare_question_and_the_right_number_follows_four_hashes(self, tmp_path: Path) -> None:
        rows = [{"question": " Two and 1,000? ", "answer": "2 + 1000 = <<2+1000=1002>>1002\n#### 1,002"}]
        write_rows(tmp_path / "gsm8k/test.jsonl", rows)
        (question,) = read("gsm8k", tmp_path)
        assert question.prompt == "Two and 1,000?"
        assert question.answer == "1,002"

    @pytest.mark.parametrize(
        ("generation", "is_right", "is_valid"),
        [
            (r"So \boxed{1200}", True, True),
            (r"First \boxed{3}, then \fbox{1200}.", True, True),
            (r"\boxed{1200} then \boxed{3}", False, True),
            (r"\boxed{1,200}", True, True),
            (r"\boxed{$1,200}", True, True),
            (r"\boxed{ 1200.00 }", True, True),
            (r"\boxed{1200.9}", True, True),  # cut to a whole number
            ("1200", True, True),
            (" $1,200\n", True, True),
            ("1200 dollars", False, False),
            (r"\boxed{1200 \text{ dollars}}", False, False),
            (r"\boxed{\frac{2400}{2}}", False, False),
            (r"\boxed{1201}", False, True),
            (r"\boxed{-1200}", False, True),
            ("The answer is 1200", False, False),
            (r"\boxed{1200", False, False),
            ("", False, False),
            (r"\boxed{}", False, False),
            (r"\boxed{inf}", False, False),
            (r"\boxed{nan}", False, False),
        ],
    )
    def test_the_last_box_or_else_all_of_the_answer_is_read_as_a_whole_number(
        self, generation: str, is_right: bool, is_valid: bool
    ) -> None:
        verdict = gsm8k.score(number("1,200"), generation)
        assert (verdict.scores["accuracy"], verdict.is_valid) == (float(is_right), is_valid)


class TestMath:
    @pytest.fixture(autouse=True)
    def _needs_math_verify(self) -> None:
        pytest.importorskip("math_verify", reason="the extra `math` is not installed")

    def test_reads_a_file_per_problem_or_all_in_one(self, tmp_path: Path) -> None:
        problem = {"problem": "Half of one?", "level": "Level 1", "type": "Algebra"}
        solution = r"It is \boxed{\frac{1}{2}}, not \emph{2}."
        for number in (0, 1):
            path = tmp_path / f"one/MATH/test/algebra/{number}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({**problem, "solution": solution}))
        write_rows(tmp_path / "two/math/test.jsonl", [{**problem, "solution": solution}] * 2)
        for folder in ("one", "two"):
            questions = read("math", tmp_path / folder)
            assert [(q.prompt, q.answer, q.group) for q in questions] == [
                ("Half of one?", r"\frac{1}{2}", "Algebra")
            ] * 2

    @pytest.mark.parametrize(
        ("answer", "generation", "is_right", "is_valid"),
        [
            (r"\frac{1}{2}", r"\boxed{\frac{1}{2}}", True, True),
            (r"\frac{1}{2}", r"\boxed{0.5}", True, True),
            (r"\frac{1}{2}", r"\boxed{\dfrac12}", True, True),
            (r"\frac{1}{2}", r"\boxed{2} or \boxed{\frac{2}{4}}", True, True),
            (r"\frac{1}{2}", r"\boxed{2}", False, True),
            (r"\frac{1}{2}", r"The answer is $\frac{1}{2}$.", True, False),
            (r"\frac{1}{2}", "I do not know.", False, False),
            (r"\frac{1}{2}", "", False, False),
            ("1200", r"\boxed{1,\!200}", True, True),
            (r"x^2+1", r"\boxed{1 + x^{2}}", True, True),
            (r"(0, 9) \cup (9, 36)", r"\fbox{(0,9)\cup(9,36)}", True, True),
            (r"\{1,2\}", r"\boxed{\left\{1, 2\right\}}", True, True),
        ],
    )
    def test_the_last_box_is_compared_as_mathematics_and_an_answer_without_one_is_invalid_too(
        self, answer: str, generation: str, is_right: bool, is_valid: bool
    ) -> None:
        verdict = competition_math.score(number(answer), generation)
        assert (verdict.scores["accuracy"], verdict.is_valid) == (float(is_right), is_valid)


class TestChoice:
    question = Question(id="0", text="", answer="C", options=4)

    @pytest.mark.parametrize(
        ("token", "earned", "is_valid"),
        [
            ("C", 1, True),
            (" c", 1, True),
            ("\nC", 1, True),
            ("A", 0, True),
            ("d", 0, True),
            ("E", 0.25, False),  # not an option
            ("CD", 0.25, False),
            ("BC", 0.25, False),
            ("", 0.25, False),
            ("The", 0.25, False),
        ],
    )
    def test_one_token_is_stripped_and_raised_and_anything_but_an_option_earns_its_share(
        self, token: str, earned: float, is_valid: bool
    ) -> None:
        verdict = choice.score(self.question, token)
        assert (verdict.scores["accuracy"], verdict.is_valid) == (earned, is_valid)

    def test_rows_of_another_layout_are_refused_with_their_columns(self, tmp_path: Path) -> None:
        write_rows(tmp_path / "arc_c/test.jsonl", [{"q": "?", "a": "!"}])
        with pytest.raises(TaskDataError, match="arc_c: row 1 has the columns q, a, whose layout is unknown"):
            read("arc_c", tmp_path, shots=0)

    def test_too_few_solved_examples_are_refused(self, tmp_path: Path) -> None:
        row = {"question": "?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"}
        for split in ("test", "validation"):
            write_rows(tmp_path / f"arc_c/{split}.jsonl", [row])
        with pytest.raises(TaskDataError, match="found 1 solved examples; expected 25"):
            read("arc_c", tmp_path)


class TestMmlu:
    def test_prompt_has_the_subjects_first_solved_examples_and_no_header(self, tmp_path: Path) -> None:
        for subject in ("anatomy", "high_school_european_history"):
            dev = "".join(f'Q{i}?,"{i}, a",{i}b,{i}c,{i}d,{"ABCDA"[i]}\n' for i in range(5))
            for split, content in (("dev", dev), ("test", '"Which, then?",w,x,y,z,B\n')):
                path = tmp_path / f"mmlu/{split}/{subject}_{split}.csv"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)
        anatomy, history = read("mmlu", tmp_path)
        assert (anatomy.group, anatomy.answer, anatomy.options) == ("anatomy", "B", 4)
        shot = "Q{0}?\nA. {0}, a\nB. {0}b\nC. {0}c\nD. {0}d\nAnswer: {1}\n\n"
        asked = "Which, then?\nA. w\nB. x\nC. y\nD. z\nAnswer:"
        assert anatomy.prompt == "".join(shot.format(i, "ABCDA"[i]) for i in range(5)) + asked
        assert history.prompt == "".join(shot.format(i, "ABCDA"[i]) for i in range(3)) + asked

    def test_reads_parquet_with_a_column_of_subjects(self, tmp_path: Path) -> None:
        row = {"question": "Which?", "subject": "anatomy", "choices": ["a", "b", "c", "d"], "answer": 2}
        for split in ("dev", "test"):
            path = tmp_path / f"mmlu/all/{split}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist([row] * 5), path)
        questions = read("mmlu", tmp_path)
        assert [(q.id, q.group, q.answer) for q in questions[:2]] == [
            ("anatomy/0", "anatomy", "C"),
            ("anatomy/1", "anatomy", "C"),
        ]


def test_arc_labels_are_positions_whether_letters_or_numbers(tmp_path: Path) -> None:
    solved = {"question": "Q?", "choices": {"text": ["p", "q", "r"], "label": ["A", "B", "C"]}, "answerKey": "C"}
    original = {
        "question": {"stem": "Why?", "choices": [{"label": str(i + 1), "text": t} for i, t in enumerate("wxyz")]},
        "answerKey": "4",
    }
    write_rows(tmp_path / "ARC-Challenge/test.jsonl", [original])
    write_rows(tmp_path / "ARC-Challenge/validation.jsonl", [solved] * 30)
    (question,) = read("arc_c", tmp_path)
    shot = "Q?\nA. p\nB. q\nC. r\nAnswer: C\n\n"
    assert question.prompt == shot * 25 + "Why?\nA. w\nB. x\nC. y\nD. z\nAnswer:"
    assert question.answer == "D"


def test_hellaswag_joins_its_contexts_and_asks_for_the_most_logical_continuation(tmp_path: Path) -> None:
    row = {
        "ctx_a": "A man stands.",
        "ctx_b": "he Then",
        "endings": ["sits.", "flies.", "eats.", "[title] x"],
        "label": "2",
    }
    write_rows(tmp_path / "hellaswag/validation.jsonl", [row])
    write_rows(tmp_path / "hellaswag/train.jsonl", [{**row, "label": 0}] * 11)
    (question,) = read("hellaswag", tmp_path)
    asked = (
        "A man stands. He then\nQuestion: Which is the most logical continuation?\n"
        "A. sits.\nB. flies.\nC. eats.\nD. [title] x\nAnswer:"
    )
    assert question.prompt == f"{asked} A\n\n" * 10 + asked
    assert question.answer == "C"


def test_winogrande_keeps_the_gap(tmp_path: Path) -> None:
    row = {"sentence": "Ann met Eve, so _ smiled.", "option1": "Ann", "option2": "Eve", "answer": "2"}
    write_rows(tmp_path / "winogrande/validation.jsonl", [row])
    write_rows(tmp_path / "winogrande/train.jsonl", [{**row, "answer": "1"}] * 5)
    (question,) = read("winogrande", tmp_path)
    asked = "Ann met Eve, so _ smiled.\nA. Ann\nB. Eve\nAnswer:"
    assert question.prompt == f"{asked} A\n\n" * 5 + asked
    assert question.answer == "B"


def test_winogrande_of_llm_foundry_gets_its_gap_back(tmp_path: Path) -> None:
    row = {"context_options": ["He hit Mary and Mary", "He hit Mary and Max"], "continuation": "cried.", "gold": 1}
    path = write_rows(tmp_path / "some.jsonl", [row])
    (question,) = read("winogrande", tmp_path, shots=0, named={"validation": path})
    assert question.prompt == "He hit Mary and _ cried.\nA. Mary\nB. Max\nAnswer:"
    assert question.answer == "B"


def test_boolq_capitalizes_its_question_and_offers_yes_and_no(tmp_path: Path) -> None:
    row = {"passage": "Bees fly.", "question": "do bees fly", "answer": True}
    write_rows(tmp_path / "boolq/validation.jsonl", [row, {**row, "answer": False}])
    write_rows(tmp_path / "boolq/train.jsonl", [row] * 5)
    yes, no = read("boolq", tmp_path)
    asked = "Bees fly.\nQuestion: Do bees fly?\nA. Yes\nB. No\nAnswer:"
    assert yes.prompt == f"{asked} A\n\n" * 5 + asked
    assert (yes.answer, no.answer, yes.options) == ("A", "B", 2)


class TestDrop:
    passage = "The Bears scored 10 points, the Lions 17."
    pairs = (
        {
            "question": "Who won?",
            "query_id": "q1",
            "answer": {"number": "", "date": {"day": "", "month": "", "year": ""}, "spans": ["Lions"]},
            "validated_answers": [
                {"number": "", "date": {"day": "", "month": "", "year": ""}, "spans": ["the Lions"]},
                {"number": "", "date": {"day": "", "month": "", "year": ""}, "spans": ["Lions"]},
            ],
        },
        {"question": "By how much?", "query_id": "q2", "answer": {"number": "7", "date": {}, "spans": []}},
        {
            "question": "When?",
            "query_id": "q3",
            "answer": {"number": "", "spans": [], "date": {"day": "3", "month": "May"}},
        },
    )

    def test_prompt_has_three_solved_examples_before_passage_and_question(self, tmp_path: Path) -> None:
        (tmp_path / "drop").mkdir()
        dataset = {"nfl_1": {"passage": self.passage, "qa_pairs": self.pairs}}
        for split in ("train", "dev"):
            (tmp_path / f"drop/{split}.json").write_text(json.dumps(dataset))
        first, second, third = read("drop", tmp_path)
        assert (first.id, first.answer) == ("q1", [["Lions"], ["the Lions"]])
        assert (second.answer, third.answer) == ([["7"]], [["3 May"]])
        *shots, asked = second.prompt.split("\n\n")
        assert asked == f"{self.passage}\nQ: By how much?\nA:"
        assert sorted(shots) == [
            f"{self.passage}\nQ: By how much?\nA: 7",
            f"{self.passage}\nQ: When?\nA: 3 May",
            f"{self.passage}\nQ: Who won?\nA: Lions",
        ]
        assert {q.shots for q in (first, second, third)} == {first.shots}

    def test_a_file_of_the_user_gives_the_solved_examples_in_its_order(self, tmp_path: Path) -> None:
        rows = [{"passage": f"p{i}", "question": f"q{i}?", "answers": [f"a{i}"]} for i in range(4)]
        write_rows(tmp_path / "drop/validation.jsonl", rows)
        question = read("drop", tmp_path, named={"shots": write_rows(tmp_path / "mine.jsonl", rows)})[3]
        assert question.prompt == "p0\nQ: q0?\nA: a0\n\np1\nQ: q1?\nA: a1\n\np2\nQ: q2?\nA: a2\n\np3\nQ: q3?\nA:"

    def test_several_texts_of_the_hugging_face_layout_are_one_answer_and_repeated_ones_another_annotators(
        self, tmp_path: Path
    ) -> None:
        rows = [
            {"passage": "p", "question": "q?", "answers_spans": {"spans": spans, "types": types}}
            for spans, types in (
                (["Ann", "Eve"], ["span", "span"]),
                (["Ann", "Ann"], ["span", "span"]),
                (["3", "4"], ["number", "number"]),
            )
        ]
        path = write_rows(tmp_path / "validation.jsonl", rows)
        found = [q.answer for q in read("drop", tmp_path, shots=0, named={"validation": path})]
        assert found == [[["Ann", "Eve"]], [["Ann"]], [["3"], ["4"]]]

    @pytest.mark.parametrize(
        ("answers", "generation", "exact_match", "f1"),
        [
            ([["Lions"]], "The Lions.", 1, 1),
            ([["7"]], "7", 1, 1),
            ([["7"]], "7.0", 1, 1),
            ([["1,200"]], "1200", 1, 1),
            ([["7"]], "7 points", 0, 0.67),
            ([["7 points"]], "8 points", 0, 0),  # the number differs
            ([["7 points"]], "7", 0, 0.67),
            ([["Tom Brady"]], "Brady", 0, 0.67),
            ([["Tom Brady"], ["Brady"]], "Brady", 1, 1),  # the best of the reference answers
            ([["Ann", "Eve"]], "Ann", 0, 0.5),  # one of two spans
            ([["Ann", "Eve"]], "Ann Eve", 0, 0.33),
            ([["well-known man"]], "known well man", 0, 1),  # a bag of words
            ([["Lions"]], "", 0, 0),
            ([["3 May"]], "May 3", 0, 1),
        ],
    )
    def test_exact_match_and_f1_follow_the_paper(
        self, answers: list[list[str]], generation: str, exact_match: float, f1: float
    ) -> None:
        verdict = drop.score(number(answers), generation)
        assert verdict.scores == {"exact_match": exact_match, "f1": f1}
        assert verdict.is_valid == bool(generation)

    def test_exact_match_and_f1_are_those_of_lm_eval(self) -> None:
        """Random texts of words that normalization changes; lm-eval is not a dependency."""
        pytest.importorskip("scipy", reason="lm-eval's scorer needs scipy, which is not installed")
        package = importlib.util.find_spec("lm_eval")
        if package is None or package.origin is None:
            pytest.skip("lm-eval is not installed")
        path = Path(package.origin).parent / "tasks/drop/utils.py"  # without the imports of the package
        spec = importlib.util.spec_from_file_location("lm_eval_drop", path)
        assert spec is not None
        assert spec.loader is not None
        theirs = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(theirs)
        rng = random.Random(0)
        texts = "the a an Lions lions 7 7.0 1,200 1200 $5 5% well-known Tom -3 3rd May ... O'Neil inf nan 1e3 ½"
        words = texts.split()

        def text() -> str:
            return " ".join(rng.choices(words, k=rng.randint(0, 4)))

        for _ in range(3000):
            answers = [tuple(text() for _ in range(rng.randint(1, 3))) for _ in range(rng.randint(1, 3))]
            answers = [spans for spans in answers if spans[0].strip()] or [("Tom",)]
            found = rng.choice([text(), rng.choice(rng.choice(answers))])
            expected = theirs.process_results({"answers": answers}, [found])
            scores = drop.score(number([list(spans) for spans in answers]), found).scores
            assert scores == {"exact_match": expected["em"], "f1": pytest.approx(expected["f1"])}, (found, answers)


class TestNumbers:
    @pytest.mark.parametrize(
        ("generation", "is_right", "is_valid"),
        [
            (r"\boxed{1.5}", True, True),
            (r"\boxed{3/2}", True, True),
            ("3 halves, so 1.5 litres", True, True),
            ("1.5 of 2", False, True),
            (r"\boxed{1.5005}", True, True),
            (r"\boxed{1.51}", False, True),
            ("none", False, False),
            (r"\boxed{1/0}", False, False),
        ],
    )
    def test_the_number_of_the_box_or_else_the_last_one_counts(
        self, generation: str, is_right: bool, is_valid: bool
    ) -> None:
        verdict = numeric.score(number(1.5), generation)
        assert (verdict.scores["accuracy"], verdict.is_valid) == (float(is_right), is_valid)

    def test_layouts_of_svamp_and_mawps_give_text_and_number(self, tmp_path: Path) -> None:
        svamp = {"Body": "Ann has 3 pens", "Question": "How many?", "Answer": 3.0}
        write_rows(tmp_path / "svamp/test.jsonl", [svamp])
        rows = [
            {"original_text": "Two ?", "ans": 2},
            {"sQuestion": " Four? ", "lSolutions": [4.0]},
            {"instruction": "Five?", "input": "", "output": "", "answer": "5.0"},
            {"body": "Six.", "question": "Count?", "answer": "6 (pens)"},
        ]
        write_rows(tmp_path / "mawps/test.jsonl", rows)
        (question,) = read("svamp", tmp_path)
        assert (question.prompt, question.answer) == ("Ann has 3 pens. How many?", 3)
        assert [(q.prompt, q.answer) for q in read("mawps", tmp_path)] == [
            ("Two ?", 2),
            ("Four?", 4),
            ("Five?", 5),
            ("Six. Count?", 6),
        ]


def test_aqua_drops_the_letters_that_its_options_begin_with(tmp_path: Path) -> None:
    row = {"question": "One?", "options": ["A)1", "B)2", "C)A)b", "D)4", "E)None"], "rationale": "", "correct": "A"}
    write_rows(tmp_path / "aqua/test.jsonl", [row])
    (question,) = read("aqua", tmp_path)
    assert question.prompt == "One?\nA. 1\nB. 2\nC. A)b\nD. 4\nE. None\nAnswer:"


@pytest.mark.parametrize(
    ("generation", "letter"),
    [
        (r"(A) is wrong, \boxed{J}", "J"),
        (r"\boxed{\text{(C)}}", "C"),
        (r"\boxed{C. cats}", "C"),
        ("(A) or (B), so the answer is (D).", "D"),
        ("Therefore C", "C"),
        ("The answer is B: cats", "B"),
        ("cats", ""),
        ("", ""),
    ],
)
def test_mmlu_pro_reads_the_box_else_the_last_letter_in_brackets_else_the_last_letter(
    generation: str, letter: str
) -> None:
    question = Question(id="0", text="", answer="J", options=10)
    verdict = mmlu_pro.score(question, generation)
    assert verdict.extracted == letter
    assert verdict.scores["accuracy"] == float(letter == "J")
    assert verdict.is_valid == bool(letter)


@pytest.mark.parametrize(
    ("target", "generation", "is_right", "is_valid"),
    [
        ("(B)", "(B)", True, True),
        ("(B)", "B", True, True),
        ("(B)", "(B) because", True, True),
        ("(B)", "(A)", False, True),
        ("(B)", "blue", False, False),
        ("False", "False.", True, True),
        ("False", "True", False, True),
        ("yes", "", False, False),
        ("] )", " ] )\n", True, True),
    ],
)
def test_bbh_compares_the_answer_or_the_letter_of_an_option(
    target: str, generation: str, is_right: bool, is_valid: bool
) -> None:
    verdict = bbh.score(number(target), generation)
    assert (verdict.scores["exact_match"], verdict.is_valid) == (float(is_right), is_valid)
