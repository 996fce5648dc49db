"""Find tasks by name, or in a file.

gsm8k           ─ module of trainer.benchmarks.tasks whose TASK has the name ─┐
their_task      ─ entry point of the group `millrace.tasks` ──────────────────┼▶ Task
my_task.yaml    ─ questions and answers in columns: `declared` ───────────────┤
my_task.py      ─ a Python file that defines TASK ────────────────────────────┘
"""

import hashlib
import importlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from corpus import plugins
from corpus.config import ConfigError, closest
from trainer.benchmarks.task import Task

GROUP = "millrace.tasks"
"""Entry point group; a package adds a task by an entry point of this group that names a `Task`."""

BUILT_IN: Mapping[str, str] = {
    "gsm8k": "gsm8k",
    "math": "competition_math",
    "drop": "drop",
    "mmlu": "mmlu",
    "arc_c": "arc_c",
    "hellaswag": "hellaswag",
    "winogrande": "winogrande",
    "boolq": "boolq",
    "mmlu_pro": "mmlu_pro",
    "aime": "aime",
    "aqua": "aqua",
    "svamp": "svamp",
    "mawps": "mawps",
    "bbh": "bbh",
    "humaneval": "humaneval",
    "mbpp": "mbpp",
}
"""Name of a task of the package to its module in `trainer.benchmarks.tasks`."""

PAPER = ("gsm8k", "math", "drop", "mmlu", "arc_c", "hellaswag", "winogrande", "boolq")
"""Tasks of HRM-Text's published evaluation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A task and where it comes from."""

    task: Task
    origin: str
    """`built in`, `entry point`, or the name of a file."""
    sha256: str | None = None
    """Hash of the file that defines it, for a task from a file."""


def find(name: str) -> Found:
    """Find a task by name.

    Raises
    ------
    ConfigError
        There is none, or an entry point does not name a `Task`.
    """
    if name in BUILT_IN:
        module = importlib.import_module(f"trainer.benchmarks.tasks.{BUILT_IN[name]}")
        return Found(task=module.TASK, origin="built in")
    points = {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}
    if name not in points:
        known = [*BUILT_IN, *points]
        raise ConfigError(f"unknown task {name!r}{closest(name, known)}; known tasks: {', '.join(known)}")
    return Found(task=_checked(points[name].load(), f"entry point {name}"), origin="entry point")


def from_file(path: Path) -> Found:
    """Read a task from a YAML file, see `declared.Declared`, or from a Python file that defines `TASK`.

    Raises
    ------
    ConfigError
        The file does not define a task.
    """
    if path.suffix in (".yaml", ".yml"):
        from trainer.benchmarks.declared import read_declared

        sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        return Found(task=read_declared(path), origin=path.name, sha256=sha256)
    if path.suffix != ".py":
        raise ConfigError(f"{path}: expected a task in a .yaml or .py file")
    try:
        plugin = plugins.find(f"{path.stem}:TASK", path.parent)
        return Found(task=_checked(plugin.load(), str(path)), origin=path.name, sha256=plugin.sha256)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def find_all(names: Sequence[str], files: Sequence[Path]) -> list[Found]:
    """Find tasks by name and in files.

    Raises
    ------
    ConfigError
        A task cannot be found, or two have the same name.
    """
    found = [*map(find, names), *map(from_file, files)]
    seen: set[str] = set()
    for entry in found:
        if entry.task.name in seen:
            raise ConfigError(f"the task {entry.task.name!r} is given twice; remove one, or give it another name")
        seen.add(entry.task.name)
    return found


def check_runnable(task: Task, *, execute: bool) -> None:
    """Check that a task can be scored here.

    Raises
    ------
    ConfigError
        It executes programs, and `execute` does not allow it, or a module that it needs is not installed.
    """
    if task.runs_code and not execute:
        raise ConfigError(
            f"{task.name} executes programs that the model writes: python -m trainer.benchmark runs it with --execute"
        )
    if task.requires is not None and find_spec(task.requires) is None:
        raise ConfigError(f"{task.name} needs {task.requires}, which is not installed: pip install 'millrace[math]'")


def _checked(value: object, where: str) -> Task:
    if not isinstance(value, Task):
        raise ConfigError(f"{where}: TASK is a {type(value).__name__}; expected a trainer.benchmarks.task.Task")
    return value
