"""The prompts of a trained model as its chat template writes them.

messages ─ chat template ─▶ text with tags ─ tokenizer ─▶ token ids of a prefix
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from model.escapes import without_escapes
from model.export import Template
from model.loading import LoadedModel, load, load_checkpoint, read_config, use_newest

_CHAT_TEMPLATE = "chat_template.jinja"


@dataclass(frozen=True, kw_only=True)
class ChatModel:
    """A trained model with its chat template."""

    loaded: LoadedModel
    template: str
    """Jinja source, as `model.export` writes it."""
    max_positions: int
    """Tokens of the longest sample that the model was trained on."""

    def render(self, messages: Sequence[Mapping[str, str]], condition: Sequence[str] | None = None) -> str:
        """Write messages as a prompt with tags.

        Parameters
        ----------
        messages
            Objects with `role` and `content`.
        condition
            Names of the conditions; None: those that the template has as its default.

        Raises
        ------
        ValueError
            The template refuses the messages or a condition.
        """
        from jinja2 import TemplateError

        given = {} if condition is None else {"condition": list(condition)}
        try:
            # `ids` encodes the text apart from the tags, so that nothing is to be escaped.
            return self._compiled.render(messages=list(messages), escape=False, **given)
        except TemplateError as error:
            raise ValueError(str(error)) from None

    def ids(self, prompt: str, condition: Sequence[str] | None = None) -> list[int]:
        """Encode a prompt that `render` wrote with these conditions: what is between its tags is text.

        Raises
        ------
        ValueError
            The prompt does not begin and end with the tags.
        """
        before, after = self.tags(condition)
        if not (prompt.startswith(before) and prompt.endswith(after)):
            raise ValueError(f"the prompt {prompt[:60]!r} has other tags than {before} … {after}")
        text = prompt[len(before) : len(prompt) - len(after)]
        return [*self._tag_ids(before), *self.text_ids(text), *self._tag_ids(after)]

    def tags(self, condition: Sequence[str] | None = None) -> tuple[str, str]:
        """Return the tags before and after the instruction of a prompt."""
        before, _, after = self.render([{"role": "user", "content": "?"}], condition).partition("?")
        return before, after

    @cached_property
    def end_id(self) -> int:
        """Id of the tag that ends an answer."""
        answered = self.render([{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}])
        return self._tag_ids(answered.rpartition("!")[2])[0]

    def _tag_ids(self, tags: str) -> list[int]:
        ids: list[int] = self.loaded.tokenizer.encode(tags, add_special_tokens=False).ids
        return ids

    def text_ids(self, text: str) -> list[int]:
        """Encode a text, in which nothing is a tag."""
        ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        return ids

    @cached_property
    def _plain(self) -> Tokenizer:
        content = without_escapes(json.loads(self.loaded.tokenizer_json))
        return Tokenizer.from_str(json.dumps({**content, "added_tokens": [], "post_processor": None}))

    @cached_property
    def _compiled(self) -> Any:
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def refuse(message: str) -> None:
            raise TemplateError(message)

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)  # as transformers sets it
        environment.globals["raise_exception"] = refuse
        return environment.from_string(self.template)


def load_chat_model(path: str | Path, *, ema: bool = True) -> ChatModel:
    """Load a trained model with its chat template.

    Parameters
    ----------
    path, ema
        As for `model.load`.

    Raises
    ------
    CheckpointError
        As for `model.load`; or the exported folder has no chat template.
    """
    path = Path(path)
    if (path / _CHAT_TEMPLATE).is_file():
        loaded = load(path, ema=ema)
        template = (path / _CHAT_TEMPLATE).read_text(encoding="utf-8")
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        return ChatModel(loaded=loaded, template=template, max_positions=config["max_position_embeddings"])
    loaded, config = use_newest(path, lambda folder: (load_checkpoint(folder, ema=ema), read_config(folder).content))
    template = Template(**config["template"]).chat_template()
    return ChatModel(loaded=loaded, template=template, max_positions=config["max_positions"])
