"""Multiple choice: usual layouts of a row, the prompt with lettered options, and the score of a one-token answer."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from trainer.benchmarks.files import TaskDataError, TaskFiles
from trainer.benchmarks.task import PUBLISHED, Question, Task, Verdict

METRIC = "accuracy"
_MARK = re.compile(r"\s*\b(?:Answer|Solution|Option|Ending)(\d): ")
_ANSWER = re.compile(r"(?:answer|solution|option|ending)(\d)")
_LETTER_MARK = re.compile(r"\s*\(([A-Z])\)\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A question with options."""

    question: str
    options: Sequence[str]
    gold: int
    """Index of the right option."""

    @property
    def letter(self) -> str:
        """Letter of the right option."""
        return ascii_uppercase[self.gold]

    @property
    def prompt(self) -> str:
        """The question, a line for each option, and `Answer:`."""
        lines = (f"{letter}. {option}\n" for letter, option in zip(ascii_uppercase, self.options, strict=False))
        return f"{self.question}\n{''.join(lines)}Answer:"

    @property
    def shot(self) -> str:
        """The prompt with its answer, as a solved example."""
        return f"{self.prompt} {self.letter}\n\n"


def ask(
    choices: Sequence[Choice], shots: Sequence[Choice] = (), *, group: str = "", prefix: str = ""
) -> list[Question]:
    """Make questions of choices, each after the same solved examples; ids are `prefix` and the number of the choice."""
    before = "".join(shot.shot for shot in shots)
    return [
        Question(
            id=f"{prefix}{number}",
            text=choice.prompt,
            answer=choice.letter,
            shots=before,
            options=len(choice.options),
            group=group,
        )
        for number, choice in enumerate(choices)
    ]


def score(question: Question, generation: str) -> Verdict:
    """Score the letter that was generated; anything but an option's letter earns 1 / number of options."""
    letter = generation.strip().upper()
    if len(letter) == 1 and letter in ascii_uppercase[: question.options]:
        return Verdict(extracted=letter, scores={METRIC: float(letter == question.answer)})
    return Verdict(extracted=letter, scores={METRIC: 1 / question.options}, is_valid=False)


def shots_of(task: str, rows: Sequence[Choice], count: int) -> Sequence[Choice]:
    """Return the first `count` rows.

    Raises
    ------
    TaskDataError
        There are fewer.
    """
    if len(rows) < count:
        raise TaskDataError(f"{task}: found {len(rows)} solved examples; expected {count}: `--shots {task}=N` sets it")
    return rows[:count]


# --- Layouts ----------------------------------------------------------------------------------------------------------


def parsed(parse: Callable[[Mapping[str, Any]], Choice], rows: Sequence[Mapping[str, Any]], task: str) -> list[Choice]:
    """Parse rows into choices.

    Raises
    ------
    TaskDataError
        A row has another layout, or its answer is none of its options.
    """
    choices = []
    for number, row in enumerate(rows, 1):
        try:
            choice = parse(row)
        except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise TaskDataError(
                f"{task}: row {number} has the columns {', '.join(map(str, row))}, whose layout is unknown ({error!r})"
            ) from None
        if not 0 <= choice.gold < len(choice.options) <= len(ascii_uppercase):
            raise TaskDataError(
                f"{task}: row {number} has {len(choice.options)} options and the right one is number {choice.gold + 1}"
            )
        choices.append(choice)
    return choices


def choice_of(row: Mapping[str, Any]) -> Choice:
    """Read a row in one of the usual layouts.

    Known are those of ARC (`question`, `choices`, `answerKey`), MMLU (`question`, `choices` or a column for each
    option, `answer`), MMLU-Pro and AQuA (`question`, `options`, a letter), llm-foundry (`query`, `choices`, `gold`),
    and LLM-Adapters (`instruction`, `answer`).

    Raises
    ------
    KeyError, ValueError, TypeError, IndexError, AttributeError
        The row has another layout.
    """
    if "instruction" in row:
        return _from_instruction(str(row["instruction"]), str(row["answer"]))
    if "query" in row:
        question = str(row["query"]).removeprefix("Question: ").strip()
        return Choice(question=question, options=row["choices"], gold=int(row["gold"]))
    if "answerKey" in row:
        return _from_labels(row)
    if "choices" in row:
        return Choice(question=row["question"], options=row["choices"], gold=int(row["answer"]))
    if "options" in row:
        lettered = zip(ascii_uppercase, row["options"], strict=False)
        options = [re.sub(rf"^{letter}\s*\)\s*", "", option) for letter, option in lettered]
        letter = row[next((key for key in ("answer", "correct") if key in row), "lSolutions")]
        question = row["question"] if "question" in row else row["sQuestion"]
        return Choice(question=question, options=options, gold=index_of_letter(letter))
    columns = ["choice0", "choice1", "choice2", "choice3"] if "choice0" in row else [*"ABCD"]
    gold = str(row["answer"]).strip()
    return Choice(
        question=row["question"],
        options=[row[name] for name in columns],
        gold=int(gold) if gold.isdigit() else index_of_letter(gold),
    )


def index_of_letter(letter: str) -> int:
    """Position of an option's letter.

    Raises
    ------
    ValueError
        It is not one letter.
    """
    if len(letter.strip()) != 1:
        raise ValueError(f"{letter!r} is not a letter")
    return ascii_uppercase.index(letter.strip().upper())


def _from_labels(row: Mapping[str, Any]) -> Choice:
    """ARC: options have labels, which are letters or numbers; their order counts."""
    question = row["question"]
    listed = row["choices"] if "choices" in row else question["choices"]
    if isinstance(listed, Mapping):
        labels, options = listed["label"], listed["text"]
    else:
        labels, options = [o["label"] for o in listed], [o["text"] for o in listed]
    text = question["stem"] if isinstance(question, Mapping) else question
    return Choice(question=text, options=options, gold=list(labels).index(row["answerKey"]))


def _from_instruction(instruction: str, answer: str) -> Choice:
    """LLM-Adapters: question and options are in one text."""
    if "Answer Choices:" in instruction:
        question, _, listed = instruction.partition("Answer Choices:")
        parts = _LETTER_MARK.split(listed)
        return Choice(question=question.strip(), options=[o.strip() for o in parts[2::2]], gold=index_of_letter(answer))
    body = instruction.partition("Answer format:")[0]
    introduced, *parts = _MARK.split(body)
    match = _ANSWER.fullmatch(answer)
    if match is None or not parts:
        raise ValueError("the instruction has no numbered options")
    question = introduced.partition(": ")[2].strip()
    return Choice(question=question, options=[o.strip() for o in parts[1::2]], gold=int(match[1]) - 1)


def published_choice(
    name: str,
    read: Callable[[TaskFiles, int], list[Question]],
    *,
    shots: int,
    size: int,
    mean_over_groups: bool = False,
) -> Task:
    """Return a task of the published protocol that is answered with one letter, without thinking."""
    return Task(
        name=name,
        metric=METRIC,
        conditions=("direct",),
        max_new_tokens=1,
        read=read,
        score=score,
        shots=shots,
        size=size,
        mean_over_groups=mean_over_groups,
        protocol=PUBLISHED,
    )
