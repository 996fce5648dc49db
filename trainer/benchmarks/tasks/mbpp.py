"""MBPP (sanitized): write a Python function from a description, which must pass its tests."""

from trainer.benchmarks.code import METRIC, questions_of, score
from trainer.benchmarks.files import TaskFiles, usual
from trainer.benchmarks.task import Question, Task


def read(files: TaskFiles, shots: int) -> list[Question]:
    """Read columns task_id, prompt, entry_point and test, or text and test_list."""
    patterns = (*usual("test", "mbpp", "mbpp/sanitized"), "**/mbpp_sanitized*.jsonl", "**/sanitized-mbpp.json")
    return questions_of(files.rows("test", patterns), "mbpp")


TASK = Task(
    name="mbpp",
    metric=METRIC,
    conditions=("direct",),
    max_new_tokens=1024,
    read=read,
    score=score,
    runs_code=True,
)
