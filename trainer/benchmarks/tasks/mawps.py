"""MAWPS: elementary word problems; the bare question."""

from corpus.eval_sets import EVAL_SETS
from trainer.benchmarks.files import TaskFiles
from trainer.benchmarks.numeric import METRIC, questions_of, score
from trainer.benchmarks.task import Question, Task


def read(files: TaskFiles, shots: int) -> list[Question]:
    """Read the layouts of `numeric.questions_of`."""
    return questions_of(files.rows("test", EVAL_SETS["mawps"].files), "mawps")


TASK = Task(name="mawps", metric=METRIC, conditions=("synth", "cot"), context=3072, read=read, score=score)
