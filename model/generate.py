"""Batched generation with cached keys and values.

    prompts ─ prefill ─▶ caches, first token ─ step ─▶ next token ─ step ─▶ …

Each application has its own caches, so a step runs all applications for the new position only. Finished rows are
removed from the batch once enough of them have accumulated.

A step can be captured in a CUDA graph (`captured`): its tensors have fixed addresses, the number of keys is rounded up
so that few graphs are needed, and the only wait for the GPU is for the tokens. Each graph is compared with the plain
step when it is made; where it cannot be made or differs, one line says so and decoding goes on without graphs. On a CPU
there is no graph. The commands that ask a model capture on CUDA; captured decoding has not run on a GPU yet.

Auto-guidance extrapolates away from a weaker prediction of the same model, the logits of the second-to-last application
that writes the head's state: (1 + w)·logits(last) - w·logits(before) (HRM-Text, inference). It costs one more product
with the head.
"""

import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.attention import DenseMask, dense_mask
from model.cache import KeyValueCache
from model.hrm import HRM

_KEEP_BELOW = 0.75
"""Finished rows are removed when at most this fraction of the batch is still running."""
_CAPTURED_KEYS = 64
"""Captured steps attend to a multiple of this number of positions, so that as many steps share a graph."""
_DIFFERENCE = 0.02
"""Largest accepted distance of the logits of a captured step from those of a plain one, relative to their norm."""


@dataclass(frozen=True, slots=True)
class PrefixInputs:
    """A batch of prompts as the model's inputs; shorter ones are padded at their end."""

    tokens: Tensor
    """int64 [rows, T]."""
    positions: Tensor
    """int64 [rows, T]."""
    mask: DenseMask
    lengths: Tensor
    """int64 [rows]."""


def prefix_inputs(model: HRM, prompts: Sequence[Sequence[int]]) -> PrefixInputs:
    """Make a batch of prompts, on the model's device."""
    device = model.z_L_init.device
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    longest = max(len(prompt) for prompt in prompts)
    tokens = torch.zeros(len(prompts), longest, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)] = torch.tensor(prompt)
    positions = torch.arange(longest, device=device).expand(len(prompts), -1)
    seen = torch.maximum(model.mutual_prefix(lengths)[:, None], positions + 1)
    end = seen * (positions < lengths[:, None])
    mask = dense_mask(torch.zeros_like(end), end, longest, model.state_dtype)
    return PrefixInputs(tokens.to(device), positions, mask, lengths)


class Decoder:
    """State of a batch that is being decoded: caches and lengths of its rows.

    Parameters
    ----------
    model
        The model; its device and the autocast mode at construction are used throughout.
    rows
        Number of rows.
    capacity
        Maximum number of positions per row.
    guidance
        Weight w of auto-guidance; 0 disables it.
    captured
        Capture steps in CUDA graphs; the logits of a step are then valid until the next one. The weights must have the
        dtype of the computation, as after `model.bfloat16()`, and must not be replaced meanwhile.

    Raises
    ------
    ValueError
        Guidance is enabled for a model in which only one application writes the head's state, or `captured` under
        autocast, which would convert the weights in every step.
    """

    def __init__(self, model: HRM, *, rows: int, capacity: int, guidance: float = 0.0, captured: bool = False):
        config = model.config
        self.model = model
        self.captured = captured
        if captured and torch.is_autocast_enabled(model.z_L_init.device.type):
            raise ValueError("captured decoding converts no weights: convert the model, and disable autocast")
        self.guidance = guidance
        self._writes_head_state = [a.writes == config.schedule[-1].writes for a in config.schedule]
        if guidance and sum(self._writes_head_state) < 2:
            raise ValueError(
                f"guidance is {guidance}; it needs two applications that write the head's state, and "
                f"{config.architecture} with this schedule has one: set it to 0"
            )
        self.device = model.z_L_init.device
        self.length = torch.zeros(rows, dtype=torch.long, device=self.device)
        self.longest = 0
        self._tokens = torch.zeros_like(self.length)
        self._replays = captured and self.device.type == "cuda"
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}  # by number of keys
        self.caches = [
            [
                KeyValueCache(config, rows=rows, capacity=capacity, dtype=model.state_dtype, device=self.device)
                for _ in range(config.layers_per_stack)
            ]
            for _ in range(config.applications)
        ]

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Process the prompts; returns the logits [rows, V] after the last token of each."""
        inputs = prefix_inputs(self.model, prompts)
        self.length.copy_(inputs.lengths)
        self.longest = inputs.tokens.shape[1]
        return self._logits(inputs.tokens, inputs.positions, inputs.mask, self.length - 1)

    def admit(self, rows: Sequence[int], prompts: Sequence[Sequence[int]]) -> Tensor:
        """Put new prompts in the place of rows; returns the logits [len(rows), V] after the last token of each."""
        fresh = Decoder(self.model, rows=len(rows), capacity=max(map(len, prompts)), guidance=self.guidance)
        logits = fresh.prefill(prompts)
        index = torch.tensor(rows, device=self.device)
        self.length[index] = fresh.length
        self.longest = int(self.length.max())
        self._reserve(fresh.longest)
        for application, fresh_application in zip(self.caches, fresh.caches, strict=True):
            for cache, fresh_cache in zip(application, fresh_application, strict=True):
                cache.replace(index, fresh_cache)
        return logits

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token to each row, int64 [rows]; returns the logits [rows, V] after it."""
        self.longest += 1
        keys = -(-self.longest // _CAPTURED_KEYS) * _CAPTURED_KEYS if self.captured else self.longest
        self._reserve(keys)
        self._tokens.copy_(tokens)
        self.length += 1
        return self._replayed(keys) if self._replays else self._appended(keys)

    def _appended(self, keys: int) -> Tensor:
        """Compute the logits after `_tokens` at the last position of each row; repeating it changes nothing."""
        end = self.length[:, None]
        mask = dense_mask(torch.zeros_like(end), end, keys, self.model.state_dtype)
        return self._logits(self._tokens[:, None], end - 1, mask, torch.zeros_like(self.length))

    def _replayed(self, keys: int) -> Tensor:
        """Like `_appended`, as a CUDA graph where that is possible."""
        if keys not in self._graphs:
            try:
                return self._capture(keys)
            except RuntimeError as error:  # of the first step with a graph; errors of a plain step are raised below
                _say_once(f"decoding without CUDA graphs, which is slower: {str(error).splitlines()[0]}")
                self.captured = self._replays = False
                self._graphs.clear()
                return self._appended(keys)
        graph, logits = self._graphs[keys]
        graph.replay()
        return logits

    def _capture(self, keys: int) -> Tensor:
        """Capture `_appended` in a graph, compare its logits with those of the plain step and return them.

        Raises
        ------
        RuntimeError
            It cannot be captured, or the logits differ.
        """
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            plain = self._appended(keys)  # libraries allocate when they are first used, which cannot be captured
        torch.cuda.current_stream(self.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        pool = next((known.pool() for known, _ in self._graphs.values()), None)
        # Calls of other threads, such as NCCL's, are none of the graph's.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            logits = self._appended(keys)
        graph.replay()
        difference = ((logits - plain).float().norm() / plain.float().norm()).item()
        if not difference <= _DIFFERENCE:
            raise RuntimeError(f"the logits of a captured step differ by {difference:.1e} of their norm")
        self._graphs[keys] = graph, logits
        return logits

    def _reserve(self, length: int) -> None:
        """Make room in the caches; where that moves them, captured steps are forgotten."""
        if length > self.caches[0][0].capacity:
            self._graphs.clear()
            for application in self.caches:
                for cache in application:
                    cache.reserve(length)

    def keep(self, rows: Tensor) -> None:
        """Drop all rows except these (int64 indices)."""
        self._graphs.clear()
        self._tokens = self._tokens[rows]
        self.length = self.length[rows]
        self.longest = int(self.length.max())
        for application in self.caches:
            for cache in application:
                cache.keep(rows)

    def _logits(self, tokens: Tensor, positions: Tensor, mask: DenseMask, at: Tensor) -> Tensor:
        """Compute the logits [rows, V] at one of the new positions of each row, given by its index [rows]."""
        row = torch.arange(len(at), device=self.device)
        states = self.model.states(tokens, positions, mask, caches=self.caches)
        final = [state[row, at] for state, is_read in zip(states, self._writes_head_state, strict=True) if is_read]
        logits: Tensor = self.model.lm_head(final[-1])
        if not self.guidance:
            return logits
        before = self.model.lm_head(final[-2]).float()
        return (1 + self.guidance) * logits.float() - self.guidance * before


@functools.cache
def _say_once(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


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
    captured: bool = False,
) -> list[list[int]]:
    """Generate answers to prompts of any lengths as one batch.

    Parameters
    ----------
    model
        The model, on any device; an enclosing `torch.autocast` applies.
    prompts
        Token ids of each prefix, from the start tag to the end tag.
    max_new_tokens
        Maximum length of an answer in tokens.
    end_id
        Id of the token that ends an answer.
    temperature
        0: greedy decoding; above: sampling from softmax(logits / temperature).
    top_p
        Sample from the smallest set of tokens whose probabilities sum to at least this.
    guidance
        Weight w of auto-guidance; 0 disables it.
    generator
        Random number generator for sampling, on the device of the model.
    captured
        Capture steps in CUDA graphs, see `Decoder`.

    Returns
    -------
    list of list of int
        The answer to each prompt, without the end token.

    Raises
    ------
    ValueError
        A prompt is empty or has a token id outside of the vocabulary, a number is out of range, or the model does not
        support guidance.
    """
    check_prompts(model, prompts)
    _check(max_new_tokens, temperature, top_p)
    answers: list[list[int]] = [[] for _ in prompts]
    if not prompts or max_new_tokens == 0:
        return answers
    done = [False] * len(prompts)
    rows = list(range(len(prompts)))  # prompt of each row of the decoder
    capacity = max(map(len, prompts)) + max_new_tokens
    decoder = Decoder(model, rows=len(prompts), capacity=capacity, guidance=guidance, captured=captured)
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
    """Choose the next tokens [rows] from logits [rows, V]."""
    if temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits.float() / temperature, -1)
    if top_p < 1:
        probabilities, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
        before = probabilities.cumsum(-1) - probabilities  # sum of the probabilities of likelier tokens
        probabilities = probabilities.masked_fill(before >= top_p, 0)
        return tokens.gather(1, torch.multinomial(probabilities, 1, generator=generator))[:, 0]
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]


def check_prompts(model: HRM, prompts: Sequence[Sequence[int]]) -> None:
    """Raise ValueError if a prompt is empty or has a token id outside of the vocabulary."""
    vocab_size = model.config.vocab_size
    for number, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise ValueError(f"prompt {number} is empty; expected at least one token")
        if min(prompt) < 0 or max(prompt) >= vocab_size:
            raise ValueError(
                f"prompt {number} has token {min(prompt) if min(prompt) < 0 else max(prompt)}; the model has 0 to "
                f"{vocab_size - 1}: was it encoded with another tokenizer?"
            )


def _check(max_new_tokens: int, temperature: float, top_p: float) -> None:
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens is {max_new_tokens}; expected at least 0")
    if temperature < 0:
        raise ValueError(f"temperature is {temperature}; expected 0 (greedy) or above")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}; expected above 0 and at most 1 (all tokens)")
