"""The manifest's `rules:`, made of the rules that the modules of this package define and those the manifest names.

    pipeline/rules/NAME.py ───────────▶ RulesSpec.NAME
    FILE.py beside the manifest ─────▶ RulesSpec."FILE:Class"

Enabled by default are only the rules that suit any instruction data: responses that repeat themselves endlessly or
repeat their instruction. Every other rule drops texts that some data contains on purpose (refusals for safety tuning,
questions about broken encodings, code, other languages).
"""

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ModelWrapValidatorHandler, ValidationInfo, create_model, model_serializer, model_validator

from corpus.config import Config
from corpus.outcome import Outcome
from corpus.plugins import Plugin, find, is_reference
from pipeline.rules.rule import Rule

_NOT_RULES = {"apply", "rule", "spec"}


def _is_rule(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, Rule) and not inspect.isabstract(value)


def _discover() -> dict[str, type[Rule]]:
    rules: dict[str, type[Rule]] = {}
    for info in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if info.name not in _NOT_RULES:
            module = importlib.import_module(f"pipeline.rules.{info.name}")
            (rules[info.name],) = (v for v in vars(module).values() if _is_rule(v) and v.__module__ == module.__name__)
    return dict(sorted(rules.items(), key=lambda item: item[1].position))


RULES: Mapping[str, type[Rule]] = _discover()
"""The rules of this package by name, in order of application."""

_FIELDS: Any = {name: (rule, rule()) for name, rule in RULES.items()}
_BuiltIn: Any = create_model("_BuiltIn", __base__=Config, **_FIELDS)


class RulesSpec(_BuiltIn):
    """All quality rules in order of application; the first rule that drops a pair is the reason in the ledger.

    A key `module:Class` names a rule in a file beside the manifest. Such a rule is enabled unless it says otherwise,
    and a dump of it has the `sha256` of its file, so that keys and lock files depend on its source.
    """

    plugins: ClassVar[list[Plugin]] = []
    """The plugins whose rules this model has, beside those of this package."""

    @property
    def rules(self) -> dict[str, Rule]:
        """Every rule by its name in the manifest."""
        return {name: getattr(self, name) for name in type(self).model_fields}

    @property
    def outcomes(self) -> set[str]:
        """The reasons that these rules can give in the ledger."""
        return {rule.outcome for rule in self.rules.values()}

    @model_validator(mode="wrap")
    @classmethod
    def _load_plugins(cls, data: Any, handler: ModelWrapValidatorHandler["RulesSpec"], info: ValidationInfo) -> Any:
        references = [name for name in data if is_reference(str(name))] if isinstance(data, dict) else []
        if not references or cls is not RulesSpec:
            return handler(data)
        context = info.context or {}
        plugins = context.get("plugins") or [find(name, context.get("base", Path())) for name in references]
        return _with_plugins(plugins).model_validate(data)

    @model_serializer
    def _dump(self) -> dict[str, Any]:
        return dict(self.rules)

    def __reduce__(self) -> Any:
        return _restore, (self.model_dump(mode="json"), self.plugins)


def _restore(data: dict[str, Any], plugins: list[Plugin]) -> RulesSpec:
    """Rebuild a pickled spec, without reading the files of its plugins again."""
    return RulesSpec.model_validate(data, context={"plugins": plugins})


def _with_plugins(plugins: list[Plugin]) -> type[RulesSpec]:
    """Return a model that also has the plugins' rules as fields."""
    fields: dict[str, Any] = {}
    outcomes = {outcome.value for outcome in Outcome} | {rule.outcome for rule in RULES.values()}
    for plugin in plugins:
        rule = plugin.load()
        if not _is_rule(rule):
            raise ValueError(f"{plugin.reference}: expected a subclass of {Rule.__module__}.Rule that defines `judge`")
        outcome = getattr(rule, "outcome", None)
        if not isinstance(outcome, str) or not outcome.isidentifier() or outcome in outcomes:
            raise ValueError(f"{plugin.reference}: expected an `outcome` that no other rule has (found {outcome!r})")
        outcomes.add(outcome)
        sha256: Any = Literal[plugin.sha256]
        pinned = create_model(rule.__name__, __base__=rule, enabled=(bool, True), sha256=(sha256, plugin.sha256))
        fields[plugin.reference] = (pinned, ...)
    model = create_model("RulesSpec", __base__=RulesSpec, **fields)
    model.plugins = plugins
    return model
