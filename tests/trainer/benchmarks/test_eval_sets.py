"""Every published question set of the shared folder is read; needs the folder, which is not part of the repository."""

import csv
from pathlib import Path

import pytest

from trainer.benchmarks.catalog import find
from trainer.benchmarks.files import TaskFiles, rows_of
from trainer.benchmarks.run import prepare

DATA = Path(__file__).parents[4] / "shared/data"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not on this machine")

FILES = {
    "gsm8k": ["gsm8k/test.jsonl", "gsm8k/test_socratic.jsonl", "llm_foundry/symbolic_problem_solving/gsm8k.jsonl"],
    "math": ["llm_foundry/symbolic_problem_solving/math.jsonl", "qwen_math_eval/minerva_math/test.jsonl"],
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
    ],
    "winogrande": ["llm_adapters/winogrande/test.json", "llm_foundry/language_understanding/winogrande.jsonl"],
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
