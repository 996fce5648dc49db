"""AQuA-RAT: algebra word problems with five options; one token, without examples."""

from typing import Any

from corpus.eval_sets import EVAL_SETS
from trainer.benchmarks.choice import METRIC, Choice, ask, choice_of, parsed, score
from trainer.benchmarks.files import TaskFiles
from trainer.benchmarks.task import Question, Task


def read(files: TaskFiles, shots: int) -> list[Question]:
    """Read columns question, options and correct, or those of LLM-Adapters; rows without options are refused."""
    return ask(parsed(_choice, files.rows("test", EVAL_SETS["aqua"].files), "aqua"))


def _choice(row: Any) -> Choice:
    return choice_of(row)


TASK = Task(name="aqua", metric=METRIC, conditions=("direct",), max_new_tokens=1, read=read, score=score, size=254)
