"""Check every hash, count and invariant of a dataset.

    python -m pipeline.verify out/mix

dataset.json is checked against everything else, and everything else against dataset.json. The checks themselves are in
`pipeline.verification`. Memory does not grow with the rows: the ids of all lines of the ledger, 16 bytes each, are in
temporary files (in `TMPDIR`), and so are the lengths of a dataset at a URL, 4 bytes a sample.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from corpus import cli
from corpus.contract import COMMIT, FORMAT, DatasetError
from corpus.dataset import Dataset, NoDatasetError, open_dataset
from corpus.storage.redact import redact_location
from corpus.terminal import counted
from pipeline.verification.check import Check, check

SHOWN = 20
"""Problems printed for each check."""
_EPILOG = """example:
  python -m pipeline.verify out/mix"""


def verify(out: str) -> list[Check]:
    """Run every check; checks that need a damaged file are left out.

    Parameters
    ----------
    out
        Folder or fsspec URL of a dataset.

    Raises
    ------
    NoDatasetError
        There is no `dataset.json`.
    OSError
        The folder or store cannot be read.
    """
    try:
        dataset = open_dataset(out)
    except NoDatasetError:
        raise
    except DatasetError as error:
        return [Check(name=COMMIT, checked=f"format {FORMAT}", problems=(str(error),))]
    with TemporaryDirectory(prefix="millrace-verify-") as scratch:
        return _checks(dataset, Path(scratch))


def _checks(dataset: Dataset, scratch: Path) -> list[Check]:
    from pipeline.verification import files, ledger, records, samples
    from pipeline.verification.row_ids import SampleIds

    info = dataset.info
    sidecars = samples.Sidecars()
    checks = [
        Check(name=COMMIT, checked=f"format {FORMAT}", problems=()),
        check("files", f"{len(info.files):,} hashes", files.file_problems(dataset)),
    ]
    if not checks[-1].problems:
        found = samples.sidecar_problems(dataset, sidecars, scratch)
        checks.append(check("sidecars", "lengths, strata, index", found))
    if checks[-1].problems:
        return checks
    ids = SampleIds(len(sidecars.lengths))
    checked_shards = f"{counted(len(sidecars.shards), 'shard')}, {counted(info.samples, 'sample')}"
    return [
        *checks,
        check("fingerprint", "index, lengths, strata, tokenizer", files.fingerprint_problems(dataset)),
        check("counts", counted(len(info.counts), "source"), samples.count_problems(dataset, sidecars.lengths)),
        check("tokenizer", f"{info.tokenizer.vocab_size:,} ids", samples.tokenizer_problems(dataset)),
        check("shards", checked_shards, samples.shard_problems(dataset, sidecars, ids)),
        check("curated", "row ids and strata in sample order", records.curated_problems(dataset, ids)),
        check("eval", counted(info.eval.rows, "row"), records.eval_problems(dataset)),
        check("ledger", "conservation, unique rows, samples", ledger.ledger_problems(dataset, ids, scratch)),
    ]


def _show(checks: Sequence[Check], out: str) -> None:
    from rich.markup import escape
    from rich.table import Table

    from pipeline.report.console import console

    screen = console()
    table = Table(title=escape(redact_location(out)), title_justify="left")
    for name in ("check", "checked", "result"):
        table.add_column(name)
    for done in checks:
        result = counted(len(done.problems), "problem") if done.problems else "ok"
        table.add_row(done.name, escape(done.checked), result)
    screen.print(table)
    for done in checks:
        for problem in done.problems[:SHOWN]:
            screen.print(f"{done.name}: {escape(problem)}", soft_wrap=True)
        if len(done.problems) > SHOWN:
            screen.print(f"{done.name}: and {len(done.problems) - SHOWN:,} more")
    if any(done.problems for done in checks):
        screen.print("to repair it, delete the dataset and the work folder it was built in, and build it again")


@cli.command("python -m pipeline.verify", errors=(DatasetError, OSError), epilog=_EPILOG)
def main(
    out: Annotated[str, typer.Argument(help="folder or fsspec URL of the dataset", metavar="OUT")],
    as_json: Annotated[bool, typer.Option("--json", help="print the checks and all problems as JSON")] = False,
) -> int:
    """Check every hash, count and invariant of a dataset."""
    checks = verify(out)
    if as_json:
        is_ok = not any(done.problems for done in checks)
        print(json.dumps({"out": redact_location(out), "ok": is_ok, "checks": [asdict(done) for done in checks]}))
    else:
        _show(checks, out)
    return 1 if any(done.problems for done in checks) else 0


if __name__ == "__main__":
    sys.exit(main())
