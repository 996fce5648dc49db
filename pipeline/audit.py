"""Audit near-duplicate and contamination decisions by hand: a page to judge a sample on, then precision.

    python -m pipeline.audit out/mix                                # writes audit.html: judge, download verdicts.json
    python -m pipeline.audit out/mix --verdicts verdicts.json       # precision with its confidence interval

The page is one file without a server: it offers the verdicts as a download, since a page cannot write files. Rows that
the build dropped are read again from their input files, which must be there.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corpus import cli
from corpus.config import ConfigError
from corpus.contract import DatasetError
from corpus.dataset import Dataset, open_dataset
from corpus.terminal import counted

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

    from pipeline.report.precision import Verdicts

_EPILOG = """example:
  python -m pipeline.audit out/mix --sample 200"""


@cli.command("python -m pipeline.audit", errors=(DatasetError, OSError, ValueError), epilog=_EPILOG)
def main(
    out: Annotated[str, typer.Argument(help="folder or fsspec URL of the dataset", metavar="OUT")],
    verdicts: Annotated[
        Path | None, typer.Option(help="verdicts downloaded from the page: print their precision", metavar="FILE")
    ] = None,
    page: Annotated[Path, typer.Option(help="the page that is written", metavar="FILE")] = Path("audit.html"),
    sample: Annotated[int, typer.Option(min=1, max=2000, help="decisions to judge")] = 200,
    seed: Annotated[int, typer.Option(help="of the sample")] = 0,
    base: Annotated[
        Path, typer.Option(help="the manifest's folder, which relative paths of input files start from", metavar="DIR")
    ] = Path(),
) -> int:
    """Write a page on which a person judges decisions of curation, or print the precision of verdicts."""
    dataset = open_dataset(out)
    if verdicts is not None:
        _show(dataset, _read(verdicts))
    else:
        _write(dataset, out, page, sample, seed, base)
    return 0


def _write(dataset: Dataset, out: str, page: Path, sample: int, seed: int, base: Path) -> None:
    import shlex

    from corpus.originals import Originals
    from corpus.pages.render import render
    from corpus.storage.redact import redact
    from pipeline.report.decisions import decisions, lines_of, sampled

    lines = lines_of(dataset)
    found = decisions(Originals(dataset=dataset, base=base), sampled(lines, sample, seed))
    readable = [decision for decision in found if decision.is_readable]
    command = f"python -m pipeline.audit {shlex.quote(redact(out))} --verdicts verdicts.json"
    content = render(
        "pipeline.report",
        "audit.html.jinja",
        script="audit.js",
        info=dataset.info,
        decisions=readable,
        total=len(lines),
        sample=f"{sample}/{seed}",
        command=command,
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(content, encoding="utf-8")
    number = f"{len(readable):,} of {counted(len(lines), 'decision')}"
    print(f"{page}: {number}; judge them in a browser and download the verdicts")
    if len(readable) < len(found):
        first = next(decision for decision in found if not decision.is_readable)
        problem = first.dropped.problem or first.other.problem
        left_out = counted(len(found) - len(readable), "sampled decision was", "sampled decisions were")
        print(f"{left_out} left out: {problem}")
    print(f"then: {command}")


def _read(path: Path) -> "Verdicts":
    from pydantic import ValidationError

    from pipeline.report.precision import Verdicts

    try:
        return Verdicts.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"--verdicts {path}: cannot be read ({error})") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(
            f"{path}: is not a file of verdicts ({place}: {first['msg']}); expected what the audit page downloads"
        ) from None


def _show(dataset: Dataset, found: "Verdicts") -> None:
    from rich.table import Table

    from pipeline.report.console import console, safe
    from pipeline.report.decisions import lines_of

    if found.fingerprint != dataset.info.fingerprint:
        raise ConfigError(
            f"the verdicts are of the dataset {found.fingerprint[:16]}, but {dataset.location} is "
            f"{dataset.info.fingerprint[:16]}: name the dataset whose page was judged, or judge a page of this one"
        )
    lines = _judged(lines_of(dataset), found)
    table = Table()
    for name in ("decisions", "judged", "same", "different", "precision", "95 % interval"):
        table.add_column(name, justify="left" if name == "decisions" else "right")
    for outcome, of_outcome in sorted(lines.group_by("outcome"), key=lambda group: str(group[0][0])):
        table.add_section()
        _add(table, str(outcome[0]).replace("_", " "), of_outcome)
        for source, of_source in sorted(of_outcome.group_by("source"), key=lambda group: str(group[0][0])):
            _add(table, safe(f"  {source[0]}"), of_source)
    console().print(table)


def _judged(lines: "pl.DataFrame", found: "Verdicts") -> "pl.DataFrame":
    """Return the lines of the judged decisions with the column `same`."""
    import polars as pl

    given = pl.DataFrame(
        {"row_id": list(found.verdicts), "same": [verdict == "same" for verdict in found.verdicts.values()]},
        schema={"row_id": pl.String, "same": pl.Boolean},
    )
    if not len(given):
        raise ConfigError("the file has no verdicts; judge some decisions on the page and download them again")
    joined = lines.join(given, on="row_id", how="inner")
    if len(joined) < len(given):
        unknown = sorted(set(given["row_id"]) - set(joined["row_id"]))
        raise ConfigError(
            f"{len(unknown):,} verdicts are on rows that this dataset did not drop as near duplicates or contaminated, "
            f"such as {unknown[0][:40]!r}; use the file as the page downloaded it"
        )
    return joined


def _add(table: "Table", name: str, lines: "pl.DataFrame") -> None:
    from pipeline.report.precision import wilson

    judged, same = len(lines), int(lines["same"].sum())
    low, high = wilson(same, judged)
    counts = (f"{judged:,}", f"{same:,}", f"{judged - same:,}")
    table.add_row(name, *counts, f"{same / judged:.1%}", f"{low:.1%} to {high:.1%}")


if __name__ == "__main__":
    sys.exit(main())
