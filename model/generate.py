"""Answers to prompts: the prompts are computed once, then one token at a time with cached keys and values.

    prompts ─ prefill ─▶ caches, first token ─ step ─▶ next token ─ step ─▶ …

Every application of every stack has its own caches, so a step runs all applications for the new position only. A row
that reached the end token leaves the batch when enough others have.

Auto-guidance asks a model what it would say with less computation, and moves away from that: the state that goes to the
head was written by earlier applications too, and the logits of the one before the last are subtracted,
(1 + w)·logits(last) - w·logits(before) (HRM-Text, inference). That costs one more product with the head.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from model.attention import DenseMask, dense_mask
from model.cache import KeyValueCache
from model.hrm import HRM

_KEEP_BELOW = 0.75
"""Finished rows leave the batch when at most this share of its rows is still running."""


class Decoder:
    """A batch of rows under decoding: the model, its caches and each row's length.

    Parameters
    ----------
    model
        The model; its device and the autocast mode at construction are used throughout.
    rows
        Number of rows.
    capacity
        Positions a row can hold.
    guidance
        w of auto-guidance; 0: none.

    Raises
    ------
    ValueError
        Guidance is asked of a model whose applications write the state for the head only once.
    """

    def __init__(self, model: HRM, *, rows: int, capacity: int, guidance: float = 0.0):
        config = model.config
        self.model = model
        self.guidance = guidance
        self._for_the_head = [step.writes == config.schedule[-1].writes for step in config.schedule]
        if guidance and sum(self._for_the_head) < 2:
            raise ValueError(
                f"guidance is {guidance}; it compares what two applications write for the head, and "
                f"{config.architecture} with this schedule has one: set it to 0"
            )
        self.device = model.z_L_init.device
        self.length = torch.zeros(rows, dtype=torch.long, device=self.device)
        self.longest = 0
        self.caches = [
            [
                KeyValueCache(config, rows=rows, capacity=capacity, dtype=model.state_dtype, device=self.device)
                for _ in range(config.layers_per_stack)
            ]
            for _ in range(config.applications)
        ]

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Compute the prompts; returns the logits [rows, V] after each one's last token."""
        self.length = torch.tensor([len(prompt) for prompt in prompts], device=self.device)
        self.longest = max(len(prompt) for prompt in prompts)
        tokens = torch.zeros(len(prompts), self.longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)] = torch.tensor(prompt)
        positions = torch.arange(self.longest, device=self.device).expand(len(prompts), -1)
        seen = torch.maximum(self.model.mutual_prefix(self.length)[:, None], positions + 1)
        end = seen * (positions < self.length[:, None])
        mask = dense_mask(torch.zeros_like(end), end, self.longest, self.model.state_dtype)
        return self._logits(tokens.to(self.device), positions, mask, self.length - 1)

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token [rows] to each row; returns the logits [rows, V] after it."""
        positions = self.length[:, None]
        self.length = self.length + 1
        self.longest += 1
        end = self.length[:, None]
        mask = dense_mask(torch.zeros_like(end), end, self.longest, self.model.state_dtype)
        return self._logits(tokens[:, None], positions, mask, torch.zeros_like(self.length))

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        self.length = self.length[rows]
        self.longest = int(self.length.max())
        for application in self.caches:
            for cache in application:
                cache.keep(rows)

    def _logits(self, tokens: Tensor, positions: Tensor, mask: DenseMask, at: Tensor) -> Tensor:
        """Logits [rows, V] at one index [rows] into the new positions of each row."""
        row = torch.arange(len(at), device=self.device)
        states = self.model.states(tokens, positions, mask, caches=self.caches)
        read = [state[row, at] for state, wanted in zip(states, self._for_the_head, strict=True) if wanted]
        logits: Tensor = self.model.lm_head(read[-1])
        if not self.guidance:
            return logits
        before = self.model.lm_head(read[-2]).float()
        return (1 + self.guidance) * logits.float() - self.guidance * before


@torch.no_grad()
def generate(
    model: HRM,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    end_id: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    guidance: float = 0.0,
    generator: torch.Generator | None = None,
) -> list[list[int]]:
    """Continue prompts of any lengths as one batch.

    Parameters
    ----------
    model
        The model, on any device; `torch.autocast` around the call is honoured.
    prompts
        Token ids of each prefix, from its start tag to its end tag.
    max_new_tokens
        Longest answer in tokens.
    end_id
        Token that ends an answer.
    temperature
        0 takes the most likely token; above, tokens are drawn from softmax(logits / temperature).
    top_p
        Draws are from the fewest tokens whose chances add up to this.
    guidance
        w of auto-guidance; 0: none.
    generator
        Random numbers for temperatures above 0, on the model's device.

    Returns
    -------
    list of list of int
        The answer to each prompt, without the end token.

    Raises
    ------
    ValueError
        A prompt is empty or holds a token outside the vocabulary, a number is outside of its range, or the model has
        nothing to guide itself by.
    """
    _check(model, prompts, max_new_tokens, temperature, top_p)
    answers: list[list[int]] = [[] for _ in prompts]
    if not prompts or max_new_tokens == 0:
        return answers
    done = [False] * len(prompts)
    rows = list(range(len(prompts)))  # the prompt in each of the decoder's rows
    decoder = Decoder(model, rows=len(prompts), capacity=max(map(len, prompts)) + max_new_tokens, guidance=guidance)
    logits = decoder.prefill(prompts)
    for _ in range(max_new_tokens - 1):
        tokens = _choose(logits, temperature, top_p, generator)
        _append(answers, done, rows, tokens, end_id)
        running = [row for row, prompt in enumerate(rows) if not done[prompt]]
        if not running:
            return answers
        if len(running) <= _KEEP_BELOW * len(rows):
            kept = torch.tensor(running, device=tokens.device)
            decoder.keep(kept)
            tokens = tokens[kept]
            rows = [rows[row] for row in running]
        logits = decoder.step(tokens)
    _append(answers, done, rows, _choose(logits, temperature, top_p, generator), end_id)
    return answers


def _append(answers: list[list[int]], done: list[bool], rows: list[int], tokens: Tensor, end_id: int) -> None:
    for prompt, token in zip(rows, tokens.tolist(), strict=True):
        if token == end_id:
            done[prompt] = True
        elif not done[prompt]:
            answers[prompt].append(token)


def _choose(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator | None) -> Tensor:
    """Next token [rows] from logits [rows, V]."""
    if temperature == 0:
        return logits.argmax(-1)
    chances = torch.softmax(logits.float() / temperature, -1)
    if top_p < 1:
        chances, tokens = chances.sort(dim=-1, descending=True, stable=True)
        chances = chances.masked_fill(chances.cumsum(-1) - chances >= top_p, 0)  # the likelier ones are enough
        return tokens.gather(1, torch.multinomial(chances, 1, generator=generator))[:, 0]
    return torch.multinomial(chances, 1, generator=generator)[:, 0]


def _check(model: HRM, prompts: Sequence[Sequence[int]], max_new_tokens: int, temperature: float, top_p: float) -> None:
    vocab_size = model.config.vocab_size
    for number, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise ValueError(f"prompt {number} is empty; expected at least one token")
        if min(prompt) < 0 or max(prompt) >= vocab_size:
            raise ValueError(
                f"prompt {number} holds token {min(prompt) if min(prompt) < 0 else max(prompt)}; the model knows 0 to "
                f"{vocab_size - 1}: was it written with another tokenizer?"
            )
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens is {max_new_tokens}; expected at least 0")
    if temperature < 0:
        raise ValueError(f"temperature is {temperature}; expected 0 (most likely token) or above")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}; expected a share above 0, and 1 (all tokens) at most")
