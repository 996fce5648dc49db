"""`python -m trainer.report RUN [RUN …]`: show a training run, or compare several, as one self-contained page."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from corpus import cli
from trainer.runs.record import RunError

EXAMPLE = """
examples:
  python -m trainer.report out/train
  python -m trainer.report out/train out/transformer --out out/compared.html
"""


@cli.command("python -m trainer.report", errors=(RunError, OSError), epilog=EXAMPLE)
def main(
    runs: Annotated[list[Path], typer.Argument(help="folders of runs, or their metrics.jsonl", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="HTML file to write (default: report.html in the first run's folder)")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the numbers as JSON, and write no page")] = False,
) -> None:
    """Show loss, held-out scores by family, speed and settings of training runs, from their metrics.jsonl."""
    import importlib.metadata

    from trainer.runs.page import MAX_RUNS, write_page
    from trainer.runs.record import read_run, summary

    if len(runs) > MAX_RUNS:
        raise typer.BadParameter(f"{len(runs)} runs were given; a page compares at most {MAX_RUNS}")
    found = [read_run(path) for path in runs]
    if as_json:
        print(json.dumps([{"run": str(path), **summary(run)} for path, run in zip(runs, found, strict=True)]))
        return
    first = runs[0] if runs[0].is_dir() else runs[0].parent
    path = out or first / "report.html"
    write_page(found, path, importlib.metadata.version("millrace"))
    print(f"report: {path}")


if __name__ == "__main__":
    sys.exit(main())
