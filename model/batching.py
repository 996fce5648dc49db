"""Greedy answers to any number of prompts, with continuous batching.

    prompts ─ as rows become free ─▶ Decoder.admit ─▶ Decoder.step ─▶ … ─▶ answers

A fixed number of rows is decoded at once. When a quarter of them have finished, the next prompts take their places in
the caches. Under the PrefixLM mask each position of a prompt sees all others, so the keys and values of examples that
prompts share depend on what follows them: they cannot be computed once for all prompts, and are not.

The answers depend on the order of the prompts and on `rows` only through rounding: products of other shapes may round
differently, which can change an answer where two tokens are almost equally likely.
"""

from collections.abc import Sequence

import torch

from model.generate import Decoder, check_prompts, prefix_inputs
from model.hrm import HRM

_FREE_SHARE = 0.25
"""Share of rows that are free when the next prompts are admitted."""
_BATCH_TOKENS = 16_384
"""Tokens, including padding, of one forward pass over prompts."""


@torch.no_grad()
def answer_all(
    model: HRM,
    prompts: Sequence[Sequence[int]],
    *,
    limits: Sequence[int],
    end_id: int,
    rows: int,
    captured: bool = False,
) -> list[list[int]]:
    """Generate greedy answers to prompts of any lengths.

    Parameters
    ----------
    model
        The model, on any device; an enclosing `torch.autocast` applies.
    prompts
        Token ids of each prefix, from the start tag to the end tag; answered in this order.
    limits
        Maximum length of each answer in tokens; 0 gives the empty answer.
    end_id
        Id of the token that ends an answer.
    rows
        Number of prompts that are decoded at once.
    captured
        Capture steps in CUDA graphs, see `model.generate.Decoder`.

    Returns
    -------
    list of list of int
        The answer to each prompt, without the end token.

    Raises
    ------
    ValueError
        A prompt is empty or has a token id outside of the vocabulary.
    """
    check_prompts(model, prompts)
    answers: list[list[int]] = [[] for _ in prompts]
    waiting = [number for number, limit in enumerate(limits) if limit]
    waiting.reverse()
    if not waiting:
        return answers
    rows = min(rows, len(waiting))
    decoder = Decoder(model, rows=rows, capacity=1, captured=captured)
    asked: list[int | None] = [None] * rows  # prompt of each row; None: free
    tokens = torch.zeros(rows, dtype=torch.long, device=decoder.device)
    idle: list[int] = []  # free rows after the last step, and the same on the device
    index_of_idle = tokens[:0]
    while True:
        free = [row for row, prompt in enumerate(asked) if prompt is None]
        if waiting and len(free) >= _FREE_SHARE * rows:
            for group in _groups(free, waiting, prompts):
                logits = decoder.admit([row for row, _ in group], [prompts[number] for _, number in group])
                chosen = logits.argmax(-1)
                tokens[[row for row, _ in group]] = chosen
                for (row, number), token in zip(group, chosen.tolist(), strict=True):
                    asked[row] = number
                    _take(answers, limits, asked, row, token, end_id)
            continue  # rows may be free again at once
        if len(free) == rows:
            return answers
        if not waiting and len(free) >= _FREE_SHARE * rows:
            kept = [row for row, prompt in enumerate(asked) if prompt is not None]
            index = torch.tensor(kept, device=decoder.device)
            decoder.keep(index)
            tokens, asked, rows = tokens[index], [asked[row] for row in kept], len(kept)
        tokens = decoder.step(tokens).argmax(-1)
        for row, token in enumerate(tokens.tolist()):
            if asked[row] is not None:
                _take(answers, limits, asked, row, token, end_id)
        if (now := [row for row, prompt in enumerate(asked) if prompt is None]) != idle:
            idle, index_of_idle = now, torch.tensor(now, dtype=torch.long, device=decoder.device)
        if idle:
            decoder.length.index_fill_(0, index_of_idle, 0)  # a free row decodes into its first position


@torch.no_grad()
def next_tokens(model: HRM, prompts: Sequence[Sequence[int]], *, rows: int) -> list[int]:
    """Compute the most likely token after each prompt; needs no caches.

    Parameters
    ----------
    model, prompts, rows
        As for `answer_all`.

    Raises
    ------
    ValueError
        A prompt is empty or has a token id outside of the vocabulary.
    """
    check_prompts(model, prompts)
    tokens: list[int] = []
    while len(tokens) < len(prompts):
        batch = prompts[len(tokens) : len(tokens) + rows]
        batch = batch[: _fitting(batch)]
        inputs = prefix_inputs(model, batch)
        state = model.run(inputs.tokens, inputs.positions, inputs.mask)
        last = state[torch.arange(len(batch), device=state.device), inputs.lengths - 1]
        tokens += model.lm_head(last).argmax(-1).tolist()
    return tokens


def _take(
    answers: list[list[int]], limits: Sequence[int], asked: list[int | None], row: int, token: int, end_id: int
) -> None:
    """Append a row's token to its answer, or end it, which frees the row."""
    number = asked[row]
    assert number is not None
    if token != end_id:
        answers[number].append(token)
    if token == end_id or len(answers[number]) == limits[number]:
        asked[row] = None


def _groups(free: list[int], waiting: list[int], prompts: Sequence[Sequence[int]]) -> list[list[tuple[int, int]]]:
    """Give free rows to waiting prompts, which are taken from the end; groups that fit into a forward pass."""
    taken = [(row, waiting.pop()) for row in free[: len(waiting)]]
    groups = []
    while taken:
        count = _fitting([prompts[number] for _, number in taken])
        groups.append(taken[:count])
        taken = taken[count:]
    return groups


def _fitting(prompts: Sequence[Sequence[int]]) -> int:
    """How many of the first prompts fit into a forward pass; at least one."""
    longest = 0
    for count, prompt in enumerate(prompts):
        longest = max(longest, len(prompt))
        if count and longest * (count + 1) > _BATCH_TOKENS:
            return count
    return len(prompts)
