"""HumanEval: complete a Python function, which must pass its tests."""

from corpus.eval_sets import EVAL_SETS
from trainer.benchmarks.code import METRIC, questions_of, score
from trainer.benchmarks.files import TaskFiles
from trainer.benchmarks.task import Question, Task


def read(files: TaskFiles, shots: int) -> list[Question]:
    """Read columns task_id, prompt, entry_point and test."""
    return questions_of(files.rows("test", EVAL_SETS["humaneval"].files), "humaneval")


TASK = Task(
    name="humaneval",
    metric=METRIC,
    conditions=("direct",),
    max_new_tokens=1024,
    read=read,
    score=score,
    size=164,
    runs_code=True,
)
