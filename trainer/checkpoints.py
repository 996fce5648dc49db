"""`python -m trainer.checkpoints LOCATION`: list the checkpoints of a run and verify each."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from corpus import cli, terminal

EXAMPLE = """
examples:
  python -m trainer.checkpoints out/train
  python -m trainer.checkpoints s3://bucket/run/checkpoints
"""


@cli.command("python -m trainer.checkpoints", epilog=EXAMPLE)
def main(
    location: Annotated[
        str,
        typer.Argument(help="A run's folder, or the folder or URL of its checkpoints or of one of them."),
    ],
) -> int:
    """List the checkpoints of a run, each verified against the hashes of its commit record."""
    from rich.table import Table

    from corpus.storage import StorageError
    from corpus.storage.location import is_url, normalized
    from model.loading import CheckpointError
    from trainer.checkpointing.load import split_location
    from trainer.checkpointing.manager import CheckpointManager

    location = normalized(location)
    inside = Path(location) / "checkpoints"
    parent, only = split_location(str(inside) if not is_url(location) and inside.is_dir() else location)
    table = Table("step", "valid", "size", "loss", "time", box=None)
    any_valid = False
    try:
        for step, files in CheckpointManager(parent, staging=Path(), keep=1).folders().items():
            if only not in (None, step):
                continue
            loss, saved, verdict = "", "", "yes"
            try:
                loss, saved = _loss_and_time(parent, step)
                any_valid = True
            except CheckpointError as error:
                verdict = str(error) if "COMMIT.json" in files else "it was never finished: no COMMIT.json"
            table.add_row(f"{step:,}", verdict, f"{sum(files.values()) / 2**20:,.1f} MiB", loss, saved)
    except StorageError as error:
        return cli.fail(error)
    if table.row_count:
        terminal.console(200).print(table)
    return 0 if any_valid else cli.fail(f"{location}: no valid checkpoint here")


def _loss_and_time(parent: str, step: int) -> tuple[str, str]:
    """Recorded loss and time of a checkpoint, which is fetched and verified."""
    from trainer.checkpointing.checkpoint import open_checkpoint
    from trainer.checkpointing.manager import CheckpointManager

    with tempfile.TemporaryDirectory() as staging:
        folder = CheckpointManager(parent, staging=Path(staging), keep=1).fetch(step)
        state = open_checkpoint(folder, verified=True).state
    return "" if state.loss is None else f"{state.loss:.4f}", state.time


if __name__ == "__main__":
    sys.exit(main())
