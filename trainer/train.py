"""`python -m trainer.train MANIFEST [key=value …]`: train, or continue a run.

The same command starts a run, continues it after a kill, and reports that it is
finished. Under torchrun it trains on as many devices as there are processes.
"""

import sys
from typing import Annotated

import typer

from corpus import cli
from trainer.stop import StopRequest
from trainer.watchdog import Watchdog

EXAMPLE = """
example:
  python -m trainer.train manifests/train.yaml out=out/second optimizer.lr=3e-4
  torchrun --nproc-per-node 8 -m trainer.train manifests/train.yaml device=cuda precision=bf16"""


STOPPED = "75 stopped by SIGTERM or SIGINT with a checkpoint: the same command continues"


@cli.command("python -m trainer.train", epilog=EXAMPLE, more_codes=STOPPED)
def main(
    manifest: Annotated[str, typer.Argument(help="YAML manifest of the run", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[key=value]...", help="replaces a key of the manifest", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check manifest and dataset, print the plan, and exit")
    ] = False,
    ranks: Annotated[
        int | None,
        typer.Option("--ranks", min=1, metavar="N", help="with --dry-run: number of ranks", show_default="1"),
    ] = None,
    device_memory: Annotated[
        str | None,
        typer.Option(
            "--device-memory",
            metavar="SIZE",
            help="with --dry-run: memory of a device, as in 80GB, to print what fits",
            show_default="that of this machine's GPU",
        ),
    ] = None,
    allow: Annotated[
        bool,
        typer.Option("--allow", help="continue although optimizer, schedule or precision differ from the checkpoint's"),
    ] = False,
) -> int:
    """Train an HRM on a built dataset, or continue the run where it stopped."""
    with StopRequest() as request, Watchdog(request):
        # This import takes seconds, during which requests to stop are handled already.
        from trainer.launch import launch

        return launch(
            manifest,
            overrides or [],
            dry_run=dry_run,
            request=request,
            allow=allow,
            ranks=ranks,
            device_memory=device_memory,
        )


if __name__ == "__main__":
    sys.exit(main())
