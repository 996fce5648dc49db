"""`python -m trainer.diagnose CKPT DATA`: what a trained model does inside, as tables and as one HTML page."""

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from model.loading import CheckpointError
from trainer.checkpointing.load import load_model
from trainer.checkpointing.objects import StorageError
from trainer.data.dataset import open_dataset
from trainer.data.fetch import DatasetError, shown
from trainer.diagnostics.page import sections, write_page
from trainer.diagnostics.report import diagnose, question_batch

EXAMPLE = """example:
  python -m trainer.diagnose out/train out/mix --page out/diagnostics.html

exit codes: 0 measured, 1 no checkpoint or no dataset that can be used, 2 usage"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.diagnose",
        description="Measure a trained model on held-out questions: effective depth of its applications, statistics "
        "of its gradient for every depth of backpropagation, truncated against full backpropagation.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", help="a checkpoint's folder, or a run's folder: its newest checkpoint")
    parser.add_argument("data", help="folder or URL of a built dataset with held-out questions")
    parser.add_argument("--page", type=Path, default=Path("diagnostics.html"), help="what to write (diagnostics.html)")
    parser.add_argument("--rows-per-family", type=int, default=8, metavar="N", help="questions of each (default 8)")
    parser.add_argument(
        "--weights",
        default="last",
        choices=["averaged", "last"],
        help="the weights of the last step, which gradients belong to (default), or their exponential moving average",
    )
    parser.add_argument("--cache", type=Path, default=Path("out/cache"), help="for a remote dataset (out/cache)")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="cpu (default) or cuda")
    options = parser.parse_args(arguments)
    if options.rows_per_family < 1:
        parser.error("--rows-per-family must be at least 1")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device is cuda, but torch finds no CUDA device here")
    if find_spec("matplotlib") is None:
        parser.error("the page needs matplotlib: pip install 'millrace[diagnose]'")
    try:
        model, tokenizer, special = load_model(
            options.checkpoint, ema=options.weights == "averaged", device=options.device
        )
        dataset = open_dataset(options.data, options.cache)
        if dict(dataset.special) != dict(special) or dataset.vocab_size != model.config.vocab_size:
            raise DatasetError(
                f"{shown(options.data)}: has another tokenizer ({dataset.vocab_size:,} tokens) than "
                f"{shown(options.checkpoint)} "
                f"({model.config.vocab_size:,}): give the dataset that the model was trained on"
            )
        report = diagnose(model, question_batch(dataset, tokenizer, rows_per_family=options.rows_per_family))
        write_page(report, options.page, title=f"Diagnostics of {shown(options.checkpoint)}")
    except (CheckpointError, DatasetError, StorageError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    console = Console(width=None if sys.stdout.isatty() else 140)
    for section in sections(report):
        table = Table(*section.columns, title=section.title, title_justify="left")
        for row in section.rows:
            table.add_row(*row)
        console.print(table)
    console.print(f"{report.questions:,} questions, {report.targets:,} response tokens; page: {options.page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
