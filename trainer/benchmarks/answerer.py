"""Answer prompts with a model: condition tags, context limit, batched greedy generation.

Request ─ tokenizer, tags ─▶ token ids ─ model.batching ─▶ token ids ─ tokenizer ─▶ Answer
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from tokenizers import Tokenizer

from corpus.contract import END_OF_RESPONSE, prefix_ids
from model.batching import answer_all, next_tokens
from model.generate import generate
from model.hrm import HRM
from trainer.data.text import plain_tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A prompt and the limits of its answer."""

    prompt: str
    conditions: Sequence[str]
    context: int
    """Largest number of tokens of prompt and answer together."""
    max_new_tokens: int | None = None
    """Largest number of tokens of the answer; None: as many as the context has room for."""
    answers: int = 1
    """Number of answers."""
    temperature: float = 0.0
    """0: greedy decoding; above: sampling."""
    seed: int = 0
    """Seed of the sampling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to a request."""

    text: str
    prompt_tokens: int
    """Tokens of the prompt, including tags."""
    new_tokens: int
    """Tokens of the answer, without the end tag."""
    is_cut: bool
    """Whether the answer was ended by a limit instead of the end tag; true for a prompt that fills the context."""


class Answerer(Protocol):
    """Whatever answers prompts: a model, or a stand-in that knows the answers."""

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """Return the answers to each request, in the order of the requests; equal calls return equal answers."""


class ModelAnswerer:
    """Answers of a model.

    Parameters
    ----------
    model
        In evaluation mode, on its device.
    tokenizer, special
        Its tokenizer and the ids of the tags.
    rows
        Number of prompts that are decoded at once.
    autocast
        Context manager of the precision, where it is not that of the weights.
    captured
        Capture decoding steps in CUDA graphs; not beside training, and not with `autocast`.
    """

    def __init__(
        self,
        model: HRM,
        tokenizer: Tokenizer,
        special: Mapping[str, int],
        *,
        rows: int,
        autocast: AbstractContextManager[object] | None = None,
        captured: bool = False,
    ):
        self.model = model
        self.tokenizer = tokenizer
        self.special = special
        self.rows = rows
        self._plain = plain_tokenizer(tokenizer)
        self._autocast = autocast or nullcontext()
        self._captured = captured

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """See `Answerer.answer`; a prompt that fills the context gets the empty answer."""
        if any(request.temperature for request in requests):
            return [answer for request in requests for answer in self._sampled(request)]
        requests = [request for request in requests for _ in range(request.answers)]
        prompts = [self._ids(request) for request in requests]
        limits = [_limit(request, len(prompt)) for request, prompt in zip(requests, prompts, strict=True)]
        end_id = self.special[END_OF_RESPONSE]
        with self._autocast:
            if max(limits, default=0) <= 1:
                asked = [i for i, limit in enumerate(limits) if limit]
                tokens = next_tokens(self.model, [prompts[i] for i in asked], rows=self.rows)
                answers: list[list[int]] = [[] for _ in requests]
                ended = [False] * len(requests)
                for i, token in zip(asked, tokens, strict=True):
                    ended[i] = token == end_id
                    answers[i] = [] if ended[i] else [token]
            else:
                answers = answer_all(
                    self.model, prompts, limits=limits, end_id=end_id, rows=self.rows, captured=self._captured
                )
                ended = [len(answer) < limit for answer, limit in zip(answers, limits, strict=True)]
        return [
            self._answer(prompt, answer, is_cut=not has_ended)
            for prompt, answer, has_ended in zip(prompts, answers, ended, strict=True)
        ]

    def _sampled(self, request: Request) -> list[Answer]:
        """Several answers to one prompt, `rows` at a time; they depend on the request and `rows` only."""
        prompt = self._ids(request)
        limit = _limit(request, len(prompt))
        generator = torch.Generator(self.model.z_L_init.device).manual_seed(request.seed)
        found: list[list[int]] = []
        with self._autocast:
            while len(found) < request.answers:
                found += generate(
                    self.model,
                    [prompt] * min(self.rows, request.answers - len(found)),
                    max_new_tokens=limit,
                    end_id=self.special[END_OF_RESPONSE],
                    temperature=request.temperature,
                    generator=generator,
                    captured=self._captured,
                )
        return [self._answer(prompt, answer, is_cut=len(answer) == limit) for answer in found]

    def _answer(self, prompt: Sequence[int], answer: Sequence[int], *, is_cut: bool) -> Answer:
        return Answer(
            text=self.tokenizer.decode(list(answer), skip_special_tokens=False),
            prompt_tokens=len(prompt),
            new_tokens=len(answer),
            is_cut=is_cut,
        )

    def _ids(self, request: Request) -> list[int]:
        text_ids = self._plain.encode(request.prompt, add_special_tokens=False).ids
        return prefix_ids(self.special, request.conditions, text_ids)


def _limit(request: Request, prompt_tokens: int) -> int:
    room = max(0, request.context - prompt_tokens)
    return room if request.max_new_tokens is None else min(room, request.max_new_tokens)
