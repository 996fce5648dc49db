"""`python -m trainer.generate CKPT "instruction"`: print a trained model's answer to an instruction.

The checkpoint contains its tokenizer, so nothing else is needed.
"""

import math
import sys
from typing import Annotated, Literal

import typer

from corpus import cli
from corpus.contract import CONDITION_TAGS, END_OF_RESPONSE, prefix_ids

MAX_NEW_TOKENS = 65_536
"""Limit of --max-new-tokens; caches for all new tokens are allocated at once."""

EXAMPLE = """
example:
  python -m trainer.generate out/train "What is 12 + 30?" --condition direct
  python -m trainer.generate s3://bucket/run "What is 12 + 30?" --temperature 0.7 --top-p 0.9

exit codes: 0 answered, 1 no checkpoint that can be used, 2 usage"""


@cli.command("python -m trainer.generate", epilog=EXAMPLE)
def main(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="a checkpoint's folder, a run's folder, or a URL of its checkpoints: the newest one",
            show_default=False,
        ),
    ],
    instruction: Annotated[str, typer.Argument(help="what to ask", show_default=False)],
    condition: Annotated[
        list[str] | None,
        typer.Option(
            metavar="|".join(CONDITION_TAGS),
            help="style of the answer, as the training data was tagged; may be repeated",
            show_default=False,
        ),
    ] = None,
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
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="where to compute")] = "cpu",
) -> int:
    """Print a trained model's answer to an instruction."""
    if unknown := set(condition or ()) - set(CONDITION_TAGS):
        raise typer.BadParameter(f"--condition is {unknown.pop()!r}; expected one of {', '.join(CONDITION_TAGS)}")
    if not math.isfinite(temperature) or not 0 < top_p <= 1:
        raise typer.BadParameter("--temperature must be at least 0 and finite, --top-p above 0 and at most 1")
    if not math.isfinite(guidance):
        raise typer.BadParameter(f"--guidance is {guidance}; expected a finite number")
    try:
        instruction.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("the instruction is not UTF-8 text") from None

    import torch

    from model.generate import generate
    from model.loading import CheckpointError
    from trainer.checkpointing.load import load_model
    from trainer.data.text import plain_tokenizer

    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("--device is cuda, but torch finds no CUDA device here")
    try:
        model, tokenizer, special = load_model(checkpoint, ema=weights == "averaged", device=device)
    except (CheckpointError, OSError) as error:
        return cli.fail(error)
    instruction_ids = plain_tokenizer(tokenizer).encode(instruction, add_special_tokens=False).ids
    try:
        (answer,) = generate(
            model,
            [prefix_ids(special, condition or [], instruction_ids)],
            max_new_tokens=max_new_tokens,
            end_id=special[END_OF_RESPONSE],
            temperature=temperature,
            top_p=top_p,
            guidance=guidance,
            generator=torch.Generator(device).manual_seed(seed),
        )
    except ValueError as error:  # --guidance of a model without a first H application
        raise typer.BadParameter(str(error)) from None
    print(tokenizer.decode(answer, skip_special_tokens=False))
    if len(answer) == max_new_tokens:
        print(f"(cut after {len(answer)} tokens; --max-new-tokens sets the limit)", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
