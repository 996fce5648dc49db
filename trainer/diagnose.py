"""`python -m trainer.diagnose CKPT DATA`: measure a trained model on held-out questions, as tables and a page."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from corpus import cli, terminal
from corpus.terminal import counted

EXAMPLE = """
example:
  python -m trainer.diagnose out/train out/mix --page out/diagnostics.html"""


@cli.command("python -m trainer.diagnose", epilog=EXAMPLE)
def main(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="a checkpoint's folder, a run's folder, or a URL of its checkpoints: the newest one",
            show_default=False,
        ),
    ],
    data: Annotated[
        str,
        typer.Argument(help="folder or URL of a built dataset with held-out questions", show_default=False),
    ],
    page: Annotated[Path, typer.Option(help="HTML file to write")] = Path("diagnostics.html"),
    rows_per_family: Annotated[int, typer.Option(min=1, metavar="N", help="questions of each task family")] = 8,
    weights: Annotated[
        Literal["averaged", "last"],
        typer.Option(
            help="the weights of the last step, which the gradients belong to, or their exponential moving average"
        ),
    ] = "last",
    cache: Annotated[Path, typer.Option(help="folder for the files of a remote dataset")] = Path("out/cache"),
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="where to compute")] = "cpu",
) -> int:
    """Measure a trained model on held-out questions.

    Reports the effective depth of its applications, statistics of its gradient for every depth of backpropagation, and
    truncated against full backpropagation.
    """
    import torch
    from rich.table import Table

    from corpus.contract import DatasetError
    from model.loading import CheckpointError
    from trainer.checkpointing.load import load_model
    from trainer.data.dataset import open_dataset
    from trainer.diagnostics.page import sections, write_page
    from trainer.diagnostics.report import diagnose, question_batch

    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("--device is cuda, but torch finds no CUDA device here")
    try:
        model, tokenizer, special = load_model(checkpoint, ema=weights == "averaged", device=device)
        dataset = open_dataset(data, cache)
        if dict(dataset.special) != dict(special) or dataset.vocab_size != model.config.vocab_size:
            raise DatasetError(
                f"{data}: has another tokenizer ({dataset.vocab_size:,} tokens) than {checkpoint} "
                f"({model.config.vocab_size:,}): give the dataset that the model was trained on"
            )
        report = diagnose(model, question_batch(dataset, tokenizer, rows_per_family=rows_per_family))
        write_page(report, page, title=f"Diagnostics of {cli.redact(checkpoint)}")
    except (CheckpointError, DatasetError, OSError) as error:
        return cli.fail(error)
    console = terminal.console(140)
    for section in sections(report):
        table = Table(*section.columns, title=section.title, title_justify="left")
        for row in section.rows:
            table.add_row(*row)
        console.print(table)
    cli.say(f"{counted(report.questions, 'question')}, {counted(report.targets, 'response token')}; page: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
