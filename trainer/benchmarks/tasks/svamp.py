"""SVAMP: elementary word problems with irrelevant numbers; the bare question."""

from corpus.eval_sets import EVAL_SETS
from trainer.benchmarks.files import TaskFiles
from trainer.benchmarks.numeric import METRIC, questions_of, score
from trainer.benchmarks.task import Question, Task


def read(files: TaskFiles, shots: int) -> list[Question]:
    """Read the layouts of `numeric.questions_of`."""
    return questions_of(files.rows("test", EVAL_SETS["svamp"].files), "svamp")


TASK = Task(name="svamp", metric=METRIC, conditions=("synth", "cot"), context=3072, read=read, score=score, size=1000)
