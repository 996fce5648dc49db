"""Rows with `instruction` and a list `instances` of input and output: a pair for each distinct output of each."""

from collections.abc import Mapping
from typing import Any

from corpus.adapters.base import Adapted, Adapter, Draft, as_text, as_texts, check_size, field, join
from corpus.formats.base import Row, RowError, shorten
from corpus.outcome import Outcome


def _adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
    head = as_text(field(row, "instruction"), "instruction")
    instances = field(row, "instances")
    if not isinstance(instances, list):
        raise RowError(Outcome.WRONG_TYPE, f"instances is {shorten(instances)}; expected a list of input and output")
    check_size(len(head) * len(instances))
    drafts = []
    for index, instance in enumerate(instances):
        where = f"instances.{index}"
        if not isinstance(instance, dict):
            raise RowError(Outcome.WRONG_TYPE, f"{where} is {shorten(instance)}; expected input and output")
        given = instance.get("input")
        instruction = join(head, "" if given is None else as_text(given, f"{where}.input"))
        outputs = as_texts(field(instance, "output", f"{where}.output"), f"{where}.output")
        drafts += [Draft(instruction, output) for output in outputs]
    if not drafts:
        raise RowError(Outcome.NO_PAIR, "instances is an empty list")
    return Adapted(drafts, frozenset({"instruction", "instances"}))


def _fits(row: Row, context: Mapping[str, Any]) -> bool:
    return "instruction" in row and isinstance(row.get("instances"), list)


NESTED_INSTANCES = Adapter(name="nested_instances", rank=50, fits=_fits, adapt=_adapt)
