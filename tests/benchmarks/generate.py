"""`python -m tests.benchmarks.generate`: tokens per second of generation, by batch size and by way.

Ways are decoding with cached keys and values (`cached`), the same with its steps captured in CUDA graphs (`captured`,
on a CPU without a graph), with auto-guidance (`guided`), without a cache (`uncached`), and `transformers`: `generate`
of transformers 5.9 or later, with the same weights, dtype and prompts, padded on the left.

Then answers of very different lengths: one prompt at a time, in batches that wait for their longest answer, and with
continuous batching, in which the next prompts take the places of finished ones. Last, one-token answers to prompts that
begin with the same solved examples, as in benchmarks of multiple choice: under the PrefixLM mask the states of examples
depend on the question, so nothing of them is cached, and the gain is that of batches.

    python -m tests.benchmarks.generate --size tiny --rows 1 16 128
    python -m tests.benchmarks.generate --size L --rows 1 64 256 --device cuda --ways cached captured transformers

Weights are random and no answer ends early, so every row gets the same number of new tokens; prompts have different
lengths, decoding is greedy. With random weights two tokens can be almost equally likely, so the fraction of equal
tokens is printed and not asserted; tests compare the logits.
"""

import argparse
import importlib
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from model import hf
from model.attention import dense_mask
from model.batching import answer_all, next_tokens
from model.config import SIZES, config_for
from model.generate import generate
from model.hrm import HRM

Answers = list[list[int]]
WAYS = ("cached", "captured", "guided", "uncached", "transformers")


@torch.no_grad()
def generate_without_cache(model: HRM, prompts: Sequence[Sequence[int]], *, max_new_tokens: int) -> Answers:
    """Greedy answers, computing all positions for each token; only the last position goes through the head."""
    device = model.z_L_init.device
    prefix = torch.tensor([len(prompt) for prompt in prompts], device=device)
    rows = torch.arange(len(prompts), device=device)
    tokens = torch.zeros(len(prompts), int(prefix.max()) + max_new_tokens, dtype=torch.long, device=device)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)] = torch.tensor(prompt, device=device)
    for new in range(max_new_tokens):
        length = int(prefix.max()) + new
        position = torch.arange(length, device=device).expand(len(prompts), length)
        end = torch.maximum(prefix[:, None], position + 1)
        mask = dense_mask(torch.zeros_like(end), end, length, model.state_dtype)
        state = model.run(tokens[:, :length], position, mask)
        tokens[rows, prefix + new] = model.lm_head(state[rows, prefix + new - 1]).argmax(-1)
    return [tokens[row, n : n + max_new_tokens].tolist() for row, n in enumerate(prefix.tolist())]


def timed(call: Callable[[], Answers], device: torch.device) -> tuple[float, Answers]:
    """Seconds of the faster of two calls, and the answers."""
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        answers = call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return min(seconds), answers


class Transformers:
    """The same model in transformers.

    Raises
    ------
    RuntimeError
        transformers is not installed, or has no model `hrm_text`.
    """

    def __init__(self, model: HRM, *, max_positions: int):
        if find_spec("transformers") is None:
            raise RuntimeError("transformers is not installed")
        library = importlib.import_module("transformers")
        if not hasattr(library, "HrmTextForCausalLM"):
            raise RuntimeError(f"transformers {version('transformers')} has no hrm_text, which 5.9 and later have")
        library.logging.set_verbosity_error()
        library.logging.disable_progress_bar()
        with tempfile.TemporaryDirectory() as folder:
            hf.save(model, Path(folder), max_positions=max_positions)
            theirs = library.AutoModelForCausalLM.from_pretrained(folder, dtype=model.state_dtype)
        self._model: Any = theirs.to(model.z_L_init.device).eval()

    @torch.no_grad()
    def generate(self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int) -> Answers:
        """Greedy answers without an end; the tokens of each prompt see each other."""
        longest = max(map(len, prompts))
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        tokens = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
        mask, tokens = mask.to(self._model.device), tokens.to(self._model.device)
        lengths = {"max_new_tokens": max_new_tokens, "min_new_tokens": max_new_tokens}
        found = self._model.generate(
            input_ids=tokens,
            attention_mask=mask,
            token_type_ids=mask,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
            **lengths,
        )
        answers: Answers = found[:, longest:].tolist()
        return answers


def measured(
    model: HRM, prompts: Sequence[Sequence[int]], new: int, ways: Sequence[str], theirs: Transformers | None
) -> list[list[str]]:
    """Rows of the table of a batch size: way, tokens/s, share of tokens that are those of the first way."""
    device, never = model.z_L_init.device, model.config.vocab_size

    def ours(guidance: float = 0.0, *, captured: bool = False) -> Answers:
        return generate(model, prompts, max_new_tokens=new, end_id=never, guidance=guidance, captured=captured)

    calls: dict[str, Callable[[], Answers]] = {
        "cached": ours,
        "captured": lambda: ours(captured=True),
        "guided": lambda: ours(0.5),
        "uncached": lambda: generate_without_cache(model, prompts, max_new_tokens=new),
    }
    if theirs is not None:
        calls["transformers"] = lambda: theirs.generate(prompts, max_new_tokens=new)
    tokens, expected, cells = len(prompts) * new, None, []
    for way in ways:
        if way not in calls:
            continue
        seconds, answers = timed(calls[way], device)
        expected = expected or answers
        equal = sum(a == b for one, two in zip(answers, expected, strict=True) for a, b in zip(one, two, strict=True))
        agreement = "–" if way == "guided" else f"{equal / tokens:.1%}"
        cells.append([f"{len(prompts):,}", way, f"{tokens / seconds:,.0f}", agreement])
    return cells


def mixed(model: HRM, rows: int, *, prompt_tokens: int, new_tokens: int) -> list[list[str]]:
    """Rows of the table about answers of very different lengths: most short, each eighth of full length."""
    device, vocab_size = model.z_L_init.device, model.config.vocab_size
    random = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, prompt_tokens + 1, (8 * rows,), generator=random).tolist()
    prompts = [torch.randint(0, vocab_size, (n,), generator=random).tolist() for n in lengths]
    limits = [new_tokens if i % 8 == 0 else max(1, new_tokens // 8) for i in range(len(prompts))]

    def batches(size: int) -> Answers:
        answers: Answers = []
        for begin in range(0, len(prompts), size):
            part = slice(begin, begin + size)
            longest = generate(model, prompts[part], max_new_tokens=max(limits[part]), end_id=vocab_size)
            answers += [answer[:limit] for answer, limit in zip(longest, limits[part], strict=True)]
        return answers

    def continuous(*, captured: bool) -> Answers:
        return answer_all(model, prompts, limits=limits, end_id=vocab_size, rows=rows, captured=captured)

    ways: dict[str, Callable[[], Answers]] = {
        "one prompt at a time": lambda: batches(1),
        f"batches of {rows}": lambda: batches(rows),
        f"continuous, {rows} rows": lambda: continuous(captured=False),
        f"continuous, {rows} rows, captured": lambda: continuous(captured=True),
    }
    cells: list[list[str]] = []
    results = {way: timed(call, device) for way, call in ways.items()}
    _, expected = results["one prompt at a time"]
    for way, (seconds, answers) in results.items():
        equal = sum(answer == alone for answer, alone in zip(answers, expected, strict=True))
        cells.append([way, f"{sum(limits) / seconds:,.0f}", f"{equal / len(prompts):.1%}"])
    return cells


def shared(model: HRM, rows: int, *, prompt_tokens: int) -> list[list[str]]:
    """Rows of the table about one-token answers to prompts that begin with the same tokens, 16 times their own."""
    vocab_size = model.config.vocab_size
    random = torch.Generator().manual_seed(2)
    examples = torch.randint(0, vocab_size, (16 * prompt_tokens,), generator=random).tolist()
    lengths = torch.randint(1, prompt_tokens + 1, (2 * rows,), generator=random).tolist()
    prompts = [examples + torch.randint(0, vocab_size, (n,), generator=random).tolist() for n in lengths]
    ways: dict[str, Callable[[], Answers]] = {
        "one prompt at a time": lambda: [[next_tokens(model, [prompt], rows=1)[0]] for prompt in prompts],
        f"batches of up to {rows}": lambda: [[token] for token in next_tokens(model, prompts, rows=rows)],
    }
    results = {way: timed(call, model.z_L_init.device) for way, call in ways.items()}
    _, expected = results["one prompt at a time"]
    cells = []
    for way, (seconds, answers) in results.items():
        equal = sum(answer == alone for answer, alone in zip(answers, expected, strict=True))
        speeds = (f"{sum(map(len, prompts)) / seconds:,.0f}", f"{len(prompts) / seconds:,.1f}")
        cells.append([way, *speeds, f"{equal / len(prompts):.1%}"])
    return cells


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.generate",
        description="Measure generation: tokens per second by batch size and way.",
        epilog="example: python -m tests.benchmarks.generate --size L --rows 1 64 --device cuda",
    )
    parser.add_argument("--size", default="tiny", choices=list(SIZES), help="size of the model (default: tiny)")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 64], help="batch sizes (default: 1 8 64)")
    parser.add_argument("--prompt-tokens", type=int, default=64, metavar="N", help="longest prompt (default: 64)")
    parser.add_argument("--new-tokens", type=int, default=64, metavar="N", help="tokens per answer (default: 64)")
    parser.add_argument("--vocab-size", type=int, default=8192, metavar="V", help="vocabulary (default: 8,192)")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="cpu (in fp32) or cuda (in bf16)")
    parser.add_argument("--ways", nargs="+", default=list(WAYS[:-1]), choices=WAYS, help="default: our own")
    parser.add_argument(
        "--tables", nargs="*", default=["mixed", "shared"], choices=["mixed", "shared"], help="further ones"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    options = parser.parse_args(arguments)
    if min(*options.rows, options.prompt_tokens, options.new_tokens, options.vocab_size, options.threads) < 1:
        parser.error("all numbers must be at least 1")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device is cuda, but torch finds no CUDA device here")
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = HRM(config_for(options.size, options.vocab_size)).to(device, dtype).eval()
    random = torch.Generator().manual_seed(0)
    where = f"{options.threads} threads of {platform.machine()}"
    if device.type == "cuda":
        where = torch.cuda.get_device_name()
    table = Table(
        title=f"Generation, size {options.size}, prompts of 1 to {options.prompt_tokens} tokens, "
        f"{options.new_tokens} new tokens; {where}, torch {torch.__version__}",
        title_justify="left",
    )
    for name in ("rows", "way", "tokens/s", "tokens agree"):
        table.add_column(name, justify="left" if name == "way" else "right")
    theirs = None
    if "transformers" in options.ways:
        try:
            theirs = Transformers(model, max_positions=options.prompt_tokens + options.new_tokens)
            table.title = f"{table.title}, transformers {version('transformers')}"
        except RuntimeError as error:
            print(f"transformers is not measured: {error}")
    for rows in options.rows:
        lengths = torch.randint(1, options.prompt_tokens + 1, (rows,), generator=random).tolist()
        prompts = [torch.randint(0, options.vocab_size, (n,), generator=random).tolist() for n in lengths]
        for cells in measured(model, prompts, options.new_tokens, options.ways, theirs):
            table.add_row(*cells)
        table.add_section()
    Console(width=120).print(table)
    rows = max(options.rows)
    if "mixed" in options.tables:
        few = options.new_tokens // 8
        table = Table(title=f"{8 * rows:,} prompts, answers of {few} or {options.new_tokens} tokens")
        for name in ("way", "tokens/s", "answers agree"):
            table.add_column(name, justify="left" if name == "way" else "right")
        for cells in mixed(model, rows, prompt_tokens=options.prompt_tokens, new_tokens=options.new_tokens):
            table.add_row(*cells)
        Console(width=120).print(table)
    if "shared" not in options.tables:
        return
    table = Table(
        title=f"{2 * rows:,} prompts with the same first {16 * options.prompt_tokens:,} tokens, one-token answers"
    )
    for name in ("way", "tokens of prompts/s", "answers/s", "answers agree"):
        table.add_column(name, justify="left" if name == "way" else "right")
    for cells in shared(model, rows, prompt_tokens=options.prompt_tokens):
        table.add_row(*cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
