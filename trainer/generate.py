"""`python -m trainer.generate CKPT [INSTRUCTION]`: ask a trained model, once, in a prompt loop, or a file of prompts.

The checkpoint contains its tokenizer, so nothing else is needed.
"""

import hashlib
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from corpus import cli
from corpus.contract import CONDITION_TAGS, END_OF_RESPONSE
from corpus.terminal import counted

if TYPE_CHECKING:
    from model.loading import LoadedModel
    from trainer.prompts import Prompt

MAX_NEW_TOKENS = 65_536
"""Limit of --max-new-tokens; caches for all new tokens are allocated at once."""

EXAMPLE = """
example:
  python -m trainer.generate out/train "What is 12 + 30?" --condition direct
  python -m trainer.generate s3://bucket/run "What is 12 + 30?" --temperature 0.7 --top-p 0.9
  python -m trainer.generate out/hf --chat --system "Answer in one word."     a prompt a line; earlier turns are context
  python -m trainer.generate out/train --file prompts.jsonl --out answers.jsonl

A line of --file is {"instruction": TEXT} or {"messages": [{"role": ROLE, "content": TEXT}, …]}, with "condition":
[NAME, …] if it has its own. --out gets the same objects with "answer" and "is_complete"; a killed command continues.
The turns of a conversation become one instruction as in a build (corpus/README.md, From a row to pairs)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How answers are drawn."""

    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int
    guidance: float
    precision: str


@cli.command("python -m trainer.generate", epilog=EXAMPLE)
def main(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="a checkpoint's folder, a run's folder, an exported folder, or a URL of checkpoints: the newest one",
            show_default=False,
        ),
    ],
    instruction: Annotated[
        str | None,
        typer.Argument(help="what to ask; without it, prompts are read from standard input", show_default=False),
    ] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            metavar="|".join(CONDITION_TAGS),
            help="style of the answer, as the training data was tagged; may be repeated",
            show_default=False,
        ),
    ] = None,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="system text before each prompt")] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="in the prompt loop, repeat earlier turns in each prompt")
    ] = False,
    file: Annotated[Path | None, typer.Option(metavar="JSONL", help="file of prompts, see below")] = None,
    out: Annotated[Path | None, typer.Option(metavar="JSONL", help="file of their answers")] = None,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="prompts of a file that are answered together")] = 32,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, max=MAX_NEW_TOKENS, metavar="N", help="length limit of the answer")
    ] = 512,
    temperature: Annotated[
        float, typer.Option(min=0, metavar="X", help="0: the most likely token; above: sample")
    ] = 0.0,
    top_p: Annotated[
        float, typer.Option(max=1, metavar="P", help="sample from the fewest tokens with this probability")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="of the samples")] = 0,
    guidance: Annotated[
        float,
        typer.Option(metavar="W", help="move away from the prediction after the first H application (0: do not)"),
    ] = 0.0,
    weights: Annotated[
        Literal["averaged", "last"],
        typer.Option(help="the exponential moving average, or the weights of the last step"),
    ] = "averaged",
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="where to compute; auto: cuda if there is a GPU")
    ] = "auto",
    precision: Annotated[
        Literal["auto", "bf16", "fp32"],
        typer.Option(help="auto: bf16 on a GPU that computes in it, fp32 elsewhere"),
    ] = "auto",
) -> int:
    """Print a trained model's answer to an instruction, to each line of standard input, or to each prompt of a file."""
    conditions = condition or []
    if unknown := [name for name in conditions if name not in CONDITION_TAGS]:
        raise typer.BadParameter(f"--condition is {unknown[0]!r}; expected one of {', '.join(CONDITION_TAGS)}")
    if not math.isfinite(temperature) or not 0 < top_p <= 1:
        raise typer.BadParameter("--temperature must be at least 0 and finite, --top-p above 0 and at most 1")
    if not math.isfinite(guidance):
        raise typer.BadParameter(f"--guidance is {guidance}; expected a finite number")
    if (file is None) != (out is None) or (file is not None and instruction is not None):
        raise typer.BadParameter("--file needs --out, and no instruction beside it")
    if chat and (instruction is not None or file is not None):
        raise typer.BadParameter("--chat is for the prompt loop; a file has the turns of a conversation as messages")
    if out is not None and out.exists():
        raise typer.BadParameter(f"--out: {out} exists; name a new file, or remove it")
    if out is not None and not out.absolute().parent.is_dir():
        raise typer.BadParameter(f"--out: there is no folder {out.absolute().parent}")

    from trainer.prompts import is_unicode, prompt, read_prompts

    if system is not None and not is_unicode(system):
        raise typer.BadParameter("--system is not UTF-8 text")
    before = [] if system is None else [("system", system)]
    asked: Sequence[Prompt] = ()
    if file is not None:
        asked = read_prompts(file, system=system, conditions=conditions)
    elif instruction is not None:
        if not instruction.strip():
            raise typer.BadParameter("the instruction is empty; without one, prompts are read from standard input")
        if not is_unicode(instruction):
            raise typer.BadParameter("the instruction is not UTF-8 text")
        try:
            asked = [prompt([*before, ("user", instruction)], conditions)]
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    import torch

    from model.loading import CheckpointError, weights_hash
    from trainer.checkpointing.load import load
    from trainer.devices import has_bf16

    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("--device is cuda, but torch finds no CUDA device here")
    try:
        loaded = load(checkpoint, ema=weights == "averaged")
    except (CheckpointError, OSError) as error:
        return cli.fail(error)
    place = torch.device(device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
    chosen = precision if precision != "auto" else "bf16" if has_bf16(place) else "fp32"
    weights_id = weights_hash(loaded.model) if out is not None else ""
    loaded.model.to(place, torch.bfloat16 if chosen == "bf16" else torch.float32)
    sampling = Sampling(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        guidance=guidance,
        precision=chosen,
    )
    try:
        if out is not None:
            return _answer_file(loaded, asked, out, sampling, batch=batch, weights=weights_id)
        if asked:
            _print(*_answer(loaded, asked, sampling)[0], sampling)
            return 0
        return _loop(loaded, before, conditions, sampling, chat=chat)
    except torch.OutOfMemoryError as error:
        first = str(error).splitlines()[0]
        return cli.fail(f"no memory is left on the device: set a smaller --batch or --max-new-tokens ({first})")


def _answer(
    loaded: "LoadedModel", prompts: "Sequence[Prompt]", sampling: Sampling, *, stream: int = 0
) -> list[tuple[str, bool]]:
    """Answer prompts as one batch: the text of each answer, and whether it ended before the limit.

    `stream` numbers the batch, so that each draws other samples.
    """
    import torch

    from model.generate import generate
    from trainer.prompts import ids

    device = loaded.model.z_L_init.device
    try:
        answers = generate(
            loaded.model,
            ids(prompts, loaded.tokenizer, loaded.special),
            max_new_tokens=sampling.max_new_tokens,
            end_id=loaded.special[END_OF_RESPONSE],
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            guidance=sampling.guidance,
            generator=torch.Generator(device).manual_seed((sampling.seed + stream) % 2**63),
            captured=device.type == "cuda",
        )
    except ValueError as error:  # --guidance of a model without a first H application
        raise typer.BadParameter(str(error)) from None
    return [
        (loaded.tokenizer.decode(answer, skip_special_tokens=False), len(answer) < sampling.max_new_tokens)
        for answer in answers
    ]


def _print(text: str, is_complete: bool, sampling: Sampling) -> None:
    from corpus.terminal import printable

    print(printable(text), flush=True)
    if not is_complete:
        length = counted(sampling.max_new_tokens, "token")
        print(f"(cut after {length}; --max-new-tokens sets the limit)", file=sys.stderr)


def _loop(
    loaded: "LoadedModel", before: list[tuple[str, str]], conditions: Sequence[str], sampling: Sampling, *, chat: bool
) -> int:
    """Answer each line of standard input until its end; blank lines are skipped."""
    from trainer.prompts import prompt

    is_terminal = sys.stdin.isatty()
    turns, number = list(before), 0
    if is_terminal:
        earlier = "earlier turns are context" if chat else "each is asked alone"
        print(f"one prompt a line, {earlier}; Ctrl-D ends", file=sys.stderr)
    while True:
        if is_terminal:
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return 0
        if not line.strip():
            continue
        try:
            asked = prompt([*turns, ("user", line.strip())], conditions)
        except ValueError as error:
            cli.fail(error)
            continue
        ((text, is_complete),) = _answer(loaded, [asked], sampling, stream=number)
        _print(text, is_complete, sampling)
        number += 1
        if chat:
            turns += [("user", line.strip()), ("assistant", text)]


def _answer_file(
    loaded: "LoadedModel", prompts: "Sequence[Prompt]", out: Path, sampling: Sampling, *, batch: int, weights: str
) -> int:
    """Write the answers to a file of prompts."""
    from dataclasses import asdict

    from trainer.answers import write_answers
    from trainer.progress import Progress

    def answer(begin: int, end: int) -> list[dict[str, Any]]:
        rows = []
        answers = _answer(loaded, prompts[begin:end], sampling, stream=begin)
        for prompt, (text, is_complete) in zip(prompts[begin:end], answers, strict=True):
            rows.append({**prompt.row, "answer": text, "is_complete": is_complete})
        return rows

    asked = [[prompt.row, prompt.instruction, prompt.conditions] for prompt in prompts]
    settings = {
        **asdict(sampling),
        "batch": batch,
        "prompts": hashlib.sha256(json.dumps(asked).encode()).hexdigest(),
        "tokenizer": hashlib.sha256(loaded.tokenizer_json.encode()).hexdigest(),
        "weights": weights,
    }
    report = Progress(str(out), len(prompts), "prompts")
    done = write_answers(out, settings=settings, count=len(prompts), batch=batch, answer=answer, report=report)
    earlier = f", {done:,} of them in an earlier run" if done else ""
    cli.say(f"{out}: {counted(len(prompts), 'answer')}{earlier}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
