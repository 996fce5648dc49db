"""`python -m trainer.generate CKPT "instruction"`: ask a trained model something.

The checkpoint carries its tokenizer, so nothing else is needed.
"""

import argparse
import math
import sys
from collections.abc import Sequence

import torch

from corpus.contract import CONDITION_TAGS, END_OF_RESPONSE, prefix_ids
from model.generate import generate
from model.loading import CheckpointError
from trainer.checkpointing.load import load_model
from trainer.checkpointing.objects import StorageError
from trainer.data.text import plain_tokenizer

MOST_TOKENS = 65_536
"""Room for so many tokens in the caches is made at once."""

EXAMPLE = """example:
  python -m trainer.generate out/train "What is 12 + 30?" --condition direct
  python -m trainer.generate s3://bucket/run "What is 12 + 30?" --temperature 0.7 --top-p 0.9

exit codes: 0 answered, 1 no checkpoint that can be used, 2 usage"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.generate",
        description="Print a trained model's answer to an instruction.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "checkpoint", help="a checkpoint's folder, a run's folder, or a URL of its checkpoints: the newest one"
    )
    parser.add_argument("instruction", help="what to ask")
    parser.add_argument(
        "--condition",
        nargs="+",
        default=[],
        choices=list(CONDITION_TAGS),
        help="how the answer should be, as the training data was tagged",
    )
    parser.add_argument("--max-new-tokens", type=int, default=512, metavar="N", help="longest answer (default 512)")
    parser.add_argument(
        "--temperature", type=float, default=0.0, metavar="X", help="0: the most likely token (default); above: draw"
    )
    parser.add_argument(
        "--top-p",
        type=float,
        default=1.0,
        metavar="P",
        help="draw from the fewest tokens with this chance (default: 1)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default 0)")
    parser.add_argument(
        "--guidance",
        type=float,
        default=0.0,
        metavar="W",
        help="move away from what the model would say after its first H application (default 0: do not)",
    )
    parser.add_argument(
        "--weights",
        default="averaged",
        choices=["averaged", "last"],
        help="the exponential moving average (default), or the weights of the last step",
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="cpu (default) or cuda")
    options = parser.parse_args(arguments)
    if not 1 <= options.max_new_tokens <= MOST_TOKENS:
        parser.error(f"--max-new-tokens is {options.max_new_tokens:,}; expected 1 to {MOST_TOKENS:,}")
    if not 0 <= options.temperature < math.inf or not 0 < options.top_p <= 1:
        parser.error("--temperature must be at least 0 and finite, --top-p above 0 and at most 1")
    if not math.isfinite(options.guidance):
        parser.error(f"--guidance is {options.guidance}; expected a finite number")
    if not 0 <= options.seed < 2**63:
        parser.error(f"--seed is {options.seed}; expected 0 to 2^63 - 1")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device is cuda, but torch finds no CUDA device here")
    try:
        options.instruction.encode()
    except UnicodeEncodeError:
        parser.error("the instruction is not UTF-8 text")
    try:
        model, tokenizer, special = load_model(
            options.checkpoint, ema=options.weights == "averaged", device=options.device
        )
    except (CheckpointError, StorageError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    instruction = plain_tokenizer(tokenizer).encode(options.instruction, add_special_tokens=False).ids
    try:
        (answer,) = generate(
            model,
            [prefix_ids(special, options.condition, instruction)],
            max_new_tokens=options.max_new_tokens,
            end_id=special[END_OF_RESPONSE],
            temperature=options.temperature,
            top_p=options.top_p,
            guidance=options.guidance,
            generator=torch.Generator(options.device).manual_seed(options.seed),
        )
    except ValueError as error:  # --guidance, of a model that has nothing to guide itself by
        parser.error(str(error))
    print(tokenizer.decode(answer, skip_special_tokens=False))
    if len(answer) == options.max_new_tokens:
        print(f"(cut after {len(answer)} tokens; --max-new-tokens sets the limit)", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
