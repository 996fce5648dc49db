"""Every published question set of the shared folder is read; needs the folder, which is not part of the repository."""

import csv
import json
from fnmatch import fnmatch
from pathlib import Path

import pytest

from trainer.benchmarks.catalog import find, from_file
from trainer.benchmarks.files import TaskFiles, rows_of
from trainer.benchmarks.run import prepare

DATA = Path(__file__).parents[4] / "shared/data"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not on this machine")

FILES = {
    "gsm8k": ["gsm8k/test.jsonl", "gsm8k/test_socratic.jsonl", "llm_foundry/symbolic_problem_solving/gsm8k.jsonl"],
    "math": [
        "llm_foundry/symbolic_problem_solving/math.jsonl",
        "qwen_math_eval/minerva_math/test.jsonl",
        "llm_foundry/symbolic_problem_solving/agi_eval_sat_math.jsonl",
    ],
    "arc_c": [
        "llm_adapters/ARC-Challenge/test.json",
        "llm_adapters/ARC-Easy/test.json",
        "llm_adapters/openbookqa/test.json",
        "llm_adapters/piqa/test.json",
        "llm_adapters/social_i_qa/test.json",
        "llm_foundry/world_knowledge/arc_challenge.jsonl",
        "llm_foundry/world_knowledge/arc_easy.jsonl",
        "llm_foundry/commonsense_reasoning/openbook_qa.jsonl",
        "llm_foundry/commonsense_reasoning/piqa.jsonl",
        "llm_foundry/commonsense_reasoning/siqa.jsonl",
        "qwen_math_eval/mmlu_stem/test.jsonl",
        "llm_foundry/reading_comprehension/agi_eval_lsat_lr.jsonl",
        "llm_foundry/reading_comprehension/agi_eval_lsat_rc.jsonl.gz",
        "llm_foundry/reading_comprehension/agi_eval_sat_en.jsonl.gz",
        "llm_foundry/reading_comprehension/bigbench_understanding_fables.jsonl",
        "llm_foundry/language_understanding/bigbench_conceptual_combinations.jsonl",
        "llm_foundry/world_knowledge/bigbench_misconceptions.jsonl",
        "llm_foundry/world_knowledge/bigbench_movie_recommendation.jsonl",
        "llm_foundry/commonsense_reasoning/bigbench_novel_concepts.jsonl",
        "llm_foundry/commonsense_reasoning/bigbench_strange_stories.jsonl",
        "llm_foundry/commonsense_reasoning/bigbench_strategy_qa.jsonl",
        "llm_foundry/commonsense_reasoning/commonsense_qa.jsonl",
        "llm_foundry/commonsense_reasoning/copa.jsonl",
        "llm_foundry/symbolic_problem_solving/agi_eval_lsat_ar.jsonl",
        "llm_foundry/symbolic_problem_solving/bigbench_logical_deduction.jsonl.zst",
        "llm_foundry/symbolic_problem_solving/logi_qa.jsonl",
        "llm_foundry/symbolic_problem_solving/math_qa.jsonl",
    ],
    "winogrande": [
        "llm_adapters/winogrande/test.json",
        "llm_foundry/language_understanding/winogrande.jsonl",
        "llm_foundry/language_understanding/winograd_wsc.jsonl",
    ],
    "aime": ["qwen_math_eval/aime24/test.jsonl"],
    "boolq": ["llm_foundry/reading_comprehension/boolq.jsonl.gz"],
    "aqua": ["llm_adapters/AQuA/test.json", "llm_adapters/AQuA/AQuA.json"],
    "svamp": [
        "llm_adapters/SVAMP/test.json",
        "llm_adapters/SVAMP/SVAMP.json",
        "llm_foundry/symbolic_problem_solving/svamp.jsonl",
        "qwen_math_eval/svamp/test.jsonl",
    ],
    "mawps": [
        "llm_adapters/mawps/test.json",
        "llm_adapters/mawps/testset.json",
        "llm_adapters/AddSub/test.json",
        "llm_adapters/AddSub/AddSub.json",
        "llm_adapters/MultiArith/test.json",
        "llm_adapters/MultiArith/MultiArith.json",
        "llm_adapters/SingleEq/test.json",
        "llm_adapters/SingleEq/SingleEq.json",
    ],
    "humaneval": ["code/HumanEval_for_code_generation.jsonl", "llm_foundry/programming/human_eval.jsonl"],
    "mbpp": ["code/mbpp_sanitized_for_code_generation.jsonl"],
}

DECLARED = {
    "llm_adapters/mathqa/test.json": ("instruction", "answer"),
    "llm_foundry/reading_comprehension/pubmed_qa_labeled.jsonl.gz": ("context", "continuation"),
    "llm_foundry/language_understanding/bigbench_conlang_translation.jsonl": ("context", "continuation"),
    "llm_foundry/language_understanding/lambada_openai.jsonl.gz": ("context", "continuation"),
    "llm_foundry/world_knowledge/jeopardy_all.jsonl": ("context", "continuation"),
    "llm_foundry/world_knowledge/triviaqa_sm_sub.jsonl.gz": ("context", "aliases"),
    "llm_foundry/symbolic_problem_solving/aqua.jsonl": ("context", "answer"),
    "llm_foundry/symbolic_problem_solving/bigbench_cs_algorithms.jsonl": ("context", "continuation"),
    "llm_foundry/symbolic_problem_solving/bigbench_dyck_languages.jsonl": ("context", "continuation"),
    "llm_foundry/symbolic_problem_solving/bigbench_operators.jsonl": ("context", "continuation"),
    "llm_foundry/symbolic_problem_solving/bigbench_repeat_copy_logic.jsonl": ("context", "continuation"),
    "llm_foundry/symbolic_problem_solving/bigbench_simple_arithmetic.jsonl": ("context", "continuation"),
    "llm_foundry/symbolic_problem_solving/simple_arithmetic_nospaces.jsonl": ("context", "continuation"),
    "llm_foundry/symbolic_problem_solving/simple_arithmetic_withspaces.jsonl": ("context", "continuation"),
    "qwen_math_eval/olympiadbench/test.jsonl": ("question", "final_answer"),
    "qwen_math_eval/asdiv/test.jsonl": ("question", "answer"),
    "qwen_math_eval/college_math/test.jsonl": ("question", "answer"),
    "superni_test/*": ("input", "output"),
}
"""Sets of other kinds, with the columns of question and answer that a YAML file declares."""
WITHOUT_ANSWERS = "instruction_following/*"
FOLDERS = ("mmlu/*", "bbh/*")
"""Read as a whole."""


def counts() -> dict[str, int]:
    """Rows of each eval set by its path below eval_sets, from the manifest."""
    with (DATA / "MANIFEST.tsv").open() as file:
        rows = csv.DictReader(file, delimiter="\t")
        return {
            row["path"].removeprefix("eval_sets/"): int(row["rows"])
            for row in rows
            if row["path"].startswith("eval_sets/")
        }


def test_every_file_has_the_rows_that_the_manifest_counts() -> None:
    found = {path: len(rows_of(path, (DATA / "eval_sets" / path).read_bytes())) for path in counts()}
    assert found == counts()


@pytest.mark.parametrize(("task", "path"), [(task, path) for task, paths in FILES.items() for path in paths])
def test_tasks_read_each_question_of_each_layout(task: str, path: str) -> None:
    split = "validation" if task in ("winogrande", "boolq") else "test"
    files = TaskFiles(task=task, folder=None, named={split: DATA / "eval_sets" / path})
    questions = find(task).task.read(files, 0)
    assert len(questions) == counts()[path]
    assert len({question.id for question in questions}) == len(questions)
    assert all(question.text.strip() for question in questions)


def test_tasks_find_their_questions_in_the_folder() -> None:
    shots = {"arc_c": 0, "winogrande": 0, "boolq": 0}
    for task in ("gsm8k", "math", "mmlu", "arc_c", "winogrande", "boolq", "aqua", "svamp", "bbh", "humaneval"):
        prepared = prepare(find(task), folder=DATA / "eval_sets", shots=shots.get(task))
        assert len(prepared.questions) == find(task).task.size, task
    mmlu = prepare(find("mmlu"), folder=DATA / "eval_sets")
    assert len({question.group for question in mmlu.questions}) == 57
    assert mmlu.questions[0].prompt.count("\nAnswer:") == 6


def test_every_set_is_read_by_a_task_except_those_without_answers(tmp_path: Path) -> None:
    by_task = {path for paths in FILES.values() for path in paths}
    for path, rows in counts().items():
        if path in by_task or any(fnmatch(path, pattern) for pattern in (WITHOUT_ANSWERS, *FOLDERS)):
            continue
        ((question, answer),) = {columns for pattern, columns in DECLARED.items() if fnmatch(path, pattern)}
        task = {"name": "declared", "type": "exact", "file": str(DATA / "eval_sets" / path)}
        (tmp_path / "task.yaml").write_text(json.dumps({**task, "question": question, "answer": answer}))
        prepared = prepare(from_file(tmp_path / "task.yaml"), folder=None)
        assert len(prepared.questions) == rows, path
        right = [prepared.task.score(q, q.answer[0]).scores["exact_match"] for q in prepared.questions]
        assert set(right) == {1.0}, path


def test_mmlu_and_bbh_have_the_questions_that_the_manifest_counts() -> None:
    for task, pattern in (("mmlu", "mmlu/test/*"), ("bbh", "bbh/*")):
        found = prepare(find(task), folder=DATA / "eval_sets").available
        assert found == sum(rows for path, rows in counts().items() if fnmatch(path, pattern))
