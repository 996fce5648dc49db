"""Answers to prompts: the prompts are computed once, then one token at a time with cached keys and values.

    prompts ─ prefill ─▶ caches, first token ─ step ─▶ next token ─ step ─▶ …

Every application of every stack has its own caches, so a step runs all applications for the new position only. A row
that reached the end token leaves the batch when enough others have.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from model.attention import dense_mask
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
    """

    def __init__(self, model: HRM, *, rows: int, capacity: int):
        config = model.config
        self.model = model
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
        z_H = self.model.run(tokens.to(self.device), positions, mask, caches=self.caches)
        return self.model.lm_head(z_H[torch.arange(len(prompts), device=self.device), self.length - 1])

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token [rows] to each row; returns the logits [rows, V] after it."""
        positions = self.length[:, None]
        self.length = self.length + 1
        self.longest += 1
        end = self.length[:, None]
        mask = dense_mask(torch.zeros_like(end), end, self.longest, self.model.state_dtype)
        z_H = self.model.run(tokens[:, None], positions, mask, caches=self.caches)
        return self.model.lm_head(z_H[:, 0])

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        self.length = self.length[rows]
        self.longest = int(self.length.max())
        for application in self.caches:
            for cache in application:
                cache.keep(rows)


@torch.no_grad()
def generate(
    model: HRM,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    end_id: int,
    temperature: float = 0.0,
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
    generator
        Random numbers for temperatures above 0, on the model's device.

    Returns
    -------
    list of list of int
        The answer to each prompt, without the end token.

    Raises
    ------
    ValueError
        A prompt is empty or holds a token outside the vocabulary, or temperature or max_new_tokens is negative.
    """
    _check(model, prompts, max_new_tokens, temperature)
    answers: list[list[int]] = [[] for _ in prompts]
    if not prompts or max_new_tokens == 0:
        return answers
    done = [False] * len(prompts)
    rows = list(range(len(prompts)))  # the prompt in each of the decoder's rows
    decoder = Decoder(model, rows=len(prompts), capacity=max(map(len, prompts)) + max_new_tokens)
    logits = decoder.prefill(prompts)
    for _ in range(max_new_tokens - 1):
        tokens = _choose(logits, temperature, generator)
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
    _append(answers, done, rows, _choose(logits, temperature, generator), end_id)
    return answers


def _append(answers: list[list[int]], done: list[bool], rows: list[int], tokens: Tensor, end_id: int) -> None:
    for prompt, token in zip(rows, tokens.tolist(), strict=True):
        if token == end_id:
            done[prompt] = True
        elif not done[prompt]:
            answers[prompt].append(token)


def _choose(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """Next token [rows] from logits [rows, V]."""
    if temperature == 0:
        return logits.argmax(-1)
    chances = torch.softmax(logits.float() / temperature, -1)
    return torch.multinomial(chances, 1, generator=generator)[:, 0]


def _check(model: HRM, prompts: Sequence[Sequence[int]], max_new_tokens: int, temperature: float) -> None:
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
