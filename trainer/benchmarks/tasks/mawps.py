"""MAWPS: elementary word problems; the bare question."""

from trainer.benchmarks.files import TaskFiles, usual
from trainer.benchmarks.numeric import METRIC, questions_of, score
from trainer.benchmarks.task import Question, Task


def read(files: TaskFiles, shots: int) -> list[Question]:
    """Read the layouts of `numeric.questions_of`."""
    patterns = (*usual("test", "mawps", "MAWPS", "*/mawps"), *usual("testset", "mawps", "*/mawps"))
    return questions_of(files.rows("test", patterns), "mawps")


TASK = Task(name="mawps", metric=METRIC, conditions=("synth", "cot"), context=3072, read=read, score=score)
