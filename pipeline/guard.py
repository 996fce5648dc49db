"""Guard: a build stops where a source or file yields nothing, loses more than allowed, or has unused context.

    files as they were read ─────────────▶ nothing read, cut off, shares, unused context ─┐
    dropped rows after each later stage ─▶ shares of the rows that came in ───────────────┴▶ problems ─▶ BuildError

The largest allowed share of a rule comes from the source's `guard`, else from `guard.rules` of the mix, else from
`UNGUARDED`, else from `guard.max_share`.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from corpus.columns import context_columns
from corpus.discover import SourceFile
from corpus.formats.csv_file import REPEATED_HEADER
from corpus.formats.tally import SKIPPED, UNREAD
from corpus.outcome import FileOutcome, Outcome
from corpus.source import SourceSpec
from corpus.terminal import counted
from pipeline.engine.step import BuildError
from pipeline.ingest.live import LiveRecords
from pipeline.ingest.step import Ingested, unused_columns
from pipeline.manifest import Mix

UNGUARDED: Mapping[str, float] = {
    Outcome.EXACT_DUPLICATE: 1.0,
    Outcome.REJECTED_LABEL: 1.0,
    Outcome.OUTRANKED: 1.0,
    Outcome.NOT_TRAINED: 1.0,
    Outcome.NOT_DRAWN: 1.0,
}
"""Rules that may drop all of a source by default: the content of an exact duplicate is kept (sources often contain each
other), a rejection, a rank or a mark of an answer is the data's own, and what no epoch draws is the manifest's own."""

MAX_LISTED = 10
"""Files of a source, or causes, that a message lists."""
MAX_NAMED = 3
"""Further files with one cause that a message names."""

MIN_BYTES = 10_000
"""Sources and files with fewer bytes are not checked for shares of lost bytes."""

_UNADAPTED = (Outcome.NOT_A_RECORD, Outcome.MISSING_FIELD, Outcome.WRONG_TYPE, Outcome.NO_PAIR)
"""Reasons for which other columns or another adapter can help."""

Dropped = Mapping[str, Mapping[str, int]]
"""Source to the number of rows that each rule has dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRead:
    """An input file, and what reading it gave."""

    spec: SourceSpec
    file: SourceFile
    found: Ingested


class Guard:
    """What a mix's sources may lose.

    Parameters
    ----------
    mix
        The manifest.
    files
        All files of its sources, as they were read.
    """

    def __init__(self, mix: Mix, files: Sequence[FileRead]) -> None:
        self._mix = mix
        self._files: dict[str, list[FileRead]] = {spec.name: [] for spec in mix.sources}
        for read in files:
            self._files[read.spec.name].append(read)

    def check_files(self) -> None:
        """Check how the files were read.

        Raises
        ------
        BuildError
            A source or a file yields no pair, too many files are cut off, a rule dropped more than it may, or a column
            with context is in no pair; the message names all of these, and what to do.
        """
        _stop(self.file_problems())

    def check(self, dropped: Dropped, not_curated: Dropped | None = None) -> None:
        """Compare what rules have dropped with what they may drop.

        Parameters
        ----------
        dropped
            Rows that rules have dropped.
        not_curated
            Rows that these rules have not seen, so that they count as rows of no source.

        Raises
        ------
        BuildError
            A rule dropped more; the message has a table, and the keys that allow it.
        """
        shares = [
            share
            for spec in self._mix.sources
            for share in self._shares(spec, spec.name, self._entered(spec, not_curated), dropped.get(spec.name, {}))
        ]
        _stop(self._share_problem(shares))

    def file_problems(self) -> list[str]:
        """Return what `check_files` stops for, one message for each kind of problem."""
        return [*self._nothing_read(), *self._cut_off(), *self._file_shares(), *self._unused_context()]

    # --- Sources and files without a pair ----------------------------------------------------------------------

    def _nothing_read(self) -> Iterator[str]:
        lines, empty, remedies = [], [], set[str]()
        for spec in self._mix.sources:
            if spec.name in self._mix.guard.allow_empty:
                continue
            files = self._files[spec.name]
            is_empty = not any(read.found.records for read in files)
            failed = [read for read in files if is_empty or self._yields_nothing(read)]
            if not failed:
                continue
            if is_empty:
                empty.append(spec.name)
            what = f"no {_unit(spec)} in {_files(failed)}" if is_empty else f"{len(failed):,} of {_files(files)}"
            lines.append(f"  source {spec.name} ({spec.role}): {what}")
            lines += _listed(failed)
            remedies.update(_remedies(failed))
        if not lines:
            return
        lines += ["What to do:", *(f"  - {remedy}" for remedy in sorted(remedies))]
        lines.append("  - name files that are not data in the source's `exclude`")
        message = "\n".join(["no pair was read from these sources or files", *lines])
        if empty:
            message += (
                "\n  - if a source may be empty, add it to `guard.allow_empty`, or at the end of the command:\n"
                f"  'guard.allow_empty=[{','.join((*self._mix.guard.allow_empty, *empty))}]'"
            )
        yield message

    def _yields_nothing(self, read: FileRead) -> bool:
        """Whether no pair of a file is left, for a reason that its source does not allow to take all of a file."""
        if read.found.records or read.found.end.outcome in (FileOutcome.SKIPPED_NOT_DATA, FileOutcome.EMPTY):
            return False
        if any(self._max_share(read.spec, reason) < 1 for reason in read.found.dropped):
            return True
        outcome = read.found.end.outcome
        if outcome is FileOutcome.READ:
            return False
        files = self._files[read.spec.name]
        share = sum(other.found.end.outcome is outcome for other in files) / len(files)
        return self._max_share(read.spec, outcome) < share

    # --- Files that are cut off --------------------------------------------------------------------------------

    def _cut_off(self) -> Iterator[str]:
        lines, keys = [("source", "rule", "files", "cut off", "share", "at most")], []
        listed = []
        for spec in self._mix.sources:
            files = [read for read in self._files[spec.name] if read.file.format is not None]
            cut = [read for read in files if read.found.end.outcome is FileOutcome.TRUNCATED]
            if not cut:
                continue
            size = sum(read.file.bytes for read in files)
            share = max(len(cut) / len(files), sum(read.file.bytes for read in cut) / max(size, 1))
            limit = self._max_share(spec, FileOutcome.TRUNCATED)
            if share > limit:
                counts = (f"{len(files):,}", f"{len(cut):,}", f"{share:.1%}", f"{limit:.1%}")
                lines.append((spec.name, FileOutcome.TRUNCATED.value, *counts))
                keys.append(self._key(spec, FileOutcome.TRUNCATED, share))
                listed += [f"    {spec.name}, {_described(read)}" for read in cut[:MAX_LISTED]]
        if keys:
            yield (
                "too many files of a source, by number or bytes, end before their data does\n"
                f"{_aligned(lines, listed)}\n"
                "Fetch the files again, or repair them at the places named. If the rows before those places are enough "
                f"for you, allow it at the end of the command:\n  {' '.join(keys)}"
            )

    # --- Shares of rows ----------------------------------------------------------------------------------------

    def _file_shares(self) -> list[str]:
        shares = []
        for spec in self._mix.sources:
            # `_nothing_read` reports files without a pair.
            files = [read for read in self._files[spec.name] if not self._yields_nothing(read)]
            if not any(read.found.records for read in files):
                continue
            dropped = sum((Counter(read.found.dropped) for read in files), Counter[str]())
            of_source = list(self._shares(spec, spec.name, sum(map(_rows, files)), dropped))
            of_source += self._byte_shares(spec, spec.name, files)
            shares += of_source
            # A file repeats what its source says, except where the other files dilute its loss.
            known = {share.rule for share in of_source}
            for read in files:
                if len(files) > 1 and read.found.records:
                    what = f"{spec.name}, {read.file.path}"
                    of_file = list(self._shares(spec, what, _rows(read), read.found.dropped))
                    of_file += self._byte_shares(spec, what, [read])
                    shares += [share for share in of_file if share.rule not in known]
        return self._share_problem(shares)

    def _shares(self, spec: SourceSpec, what: str, rows: int, dropped: Mapping[str, int]) -> Iterator["_Share"]:
        if not rows or (spec.role == "train" and rows < self._mix.guard.min_rows):
            return
        for rule, count in dropped.items():
            if count / rows > (limit := self._max_share(spec, rule)):
                yield _Share(spec=spec, what=what, rule=rule, rows=rows, dropped=count, limit=limit)

    def _byte_shares(self, spec: SourceSpec, what: str, files: Sequence[FileRead]) -> Iterator["_Share"]:
        """Return losses by bytes: what could not be divided into rows counts as few rows or none."""
        size = sum(read.found.end.bytes_read or 0 for read in files)
        lost = sum((Counter(read.found.end.bytes_lost or {}) for read in files), Counter[str]())
        for reason, count in lost.items():
            rule = FileOutcome.TRUNCATED.value if reason == UNREAD else reason
            limit = self._max_share(spec, rule) if rule not in (REPEATED_HEADER, SKIPPED) else 1.0
            if size >= MIN_BYTES and count / size > limit:
                yield _Share(spec=spec, what=what, rule=rule, rows=size, dropped=count, limit=limit, unit=" bytes")

    def _share_problem(self, shares: Sequence["_Share"]) -> list[str]:
        if not shares:
            return []
        lines: list[tuple[str, ...]] = [("source", "rule", "rows in", "dropped", "share", "at most")]
        largest: dict[tuple[str, str], _Share] = {}
        for share in shares:
            lines.append(share.cells)
            before = largest.get((share.spec.name, share.rule), share)
            largest[share.spec.name, share.rule] = max(before, share, key=lambda each: each.share)
        keys = [self._key(share.spec, share.rule, share.share) for share in largest.values()]
        return [
            "a rule drops more of a source or file than allowed\n"
            f"{_aligned(lines)}\n"
            "Check that the rule suits the source (--dry-run shows how the source is read). If the rows should be "
            f"dropped, allow it by `guard: {{RULE: SHARE}}` of the source in the manifest, or at the end of the "
            f"command:\n  {' '.join(keys)}"
        ]

    def _entered(self, spec: SourceSpec, not_curated: Dropped | None) -> int:
        rows = sum(_rows(read) for read in self._files[spec.name])
        return rows - sum((not_curated or {}).get(spec.name, {}).values())

    def _max_share(self, source: SourceSpec, rule: str) -> float:
        for shares in (source.guard, self._mix.guard.rules, UNGUARDED):
            if rule in shares:
                return shares[rule]
        # What is lost of an eval source cannot be looked for in train sources.
        never = rule == FileOutcome.UNREADABLE or (rule == FileOutcome.TRUNCATED and source.role == "eval")
        return 0.0 if never else self._mix.guard.max_share

    def _key(self, spec: SourceSpec, rule: str, share: float) -> str:
        return f"{self._place(spec)}.guard.{rule}={math.ceil(share * 100) / 100:g}"

    def _place(self, spec: SourceSpec) -> str:
        """Return the source's place in the manifest, as an override names it."""
        names = [source.name for source in self._mix.sources]
        return f"sources.{names.index(spec.name) if '.' in spec.name else spec.name}"

    # --- Columns with context ----------------------------------------------------------------------------------

    def _unused_context(self) -> Iterator[str]:
        lines, keys = [], []
        for spec in self._mix.sources:
            if spec.generator is not None:
                continue
            columns = {
                line.column: line for line in unused_columns(spec.name, [read.found for read in self._files[spec.name]])
            }
            unused = [name for name in context_columns(columns) if name not in spec.ignore]
            if not unused:
                continue
            lines.append(f"  source {spec.name} ({spec.role}), {counted(columns[unused[0]].rows, 'row')} with a pair")
            lines += [f"    {columns[name]}" for name in unused]
            keys.append(f"'{self._place(spec)}.ignore=[{','.join((*spec.ignore, *unused))}]'")
        if keys:
            text = "\n".join(lines)
            yield (
                "columns that hold context by their names are in no pair of rows in which they are filled\n"
                f"{text}\n"
                "Put them into the instruction by the source's `map` (`instruction: '{NAME?} …'`), or state the "
                "`adapter` that reads them. If the pairs are complete without them, name them in the source's "
                f"`ignore`, or at the end of the command:\n  {' '.join(keys)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Share:
    """A rule that dropped more of a source, or of one of its files, than allowed."""

    spec: SourceSpec
    what: str
    rule: str
    rows: int
    dropped: int
    limit: float
    unit: str = ""
    """Of `rows` and `dropped`, if not rows."""

    @property
    def share(self) -> float:
        return self.dropped / self.rows

    @property
    def cells(self) -> tuple[str, ...]:
        counts = f"{self.rows:,}{self.unit}", f"{self.dropped:,}{self.unit}"
        return self.what, self.rule, *counts, f"{self.share:.1%}", f"{self.limit:.1%}"


def dropped_between(before: LiveRecords, after: LiveRecords) -> dict[str, Counter[str]]:
    """Return what the stage between two states of the records dropped."""
    rules = {ref.outcome.value for ref in after.drops[len(before.drops) :]}
    lost: dict[str, Counter[str]] = {}
    for number, part in enumerate(after.parts):
        count = after.lost_rows.get(number, 0) - before.lost_rows.get(number, 0)
        # A stage has one rule.
        lost.setdefault(part.source, Counter()).update(dict.fromkeys(rules, count))
    return lost


def _stop(problems: Sequence[str]) -> None:
    if problems:
        raise BuildError(
            "\n".join(["the guard stops the build: nothing was published, finished work is kept", *problems])
        )


def _rows(read: FileRead) -> int:
    """Pairs, and rows without one, of a file."""
    return read.found.pairs + read.found.rejected


def _unit(spec: SourceSpec) -> str:
    return "item" if spec.role == "eval" else "pair"


def _files(files: Sequence[FileRead]) -> str:
    size = sum(read.file.bytes for read in files)
    return f"{counted(len(files), 'file')} of {counted(size, 'byte')}"


def _described(read: FileRead) -> str:
    """Describe a file and why nothing more was read from it, in one line."""
    end, found = read.found.end, read.found
    how = f"{end.outcome.replace('_', ' ')}, {counted(read.file.bytes, 'byte')}, {counted(end.rows, 'row')}"
    ended = ": ".join(part for part in (end.position, end.detail) if part)
    reasons = [
        f"{count:,} {reason}" + (f" ({found.examples[reason]})" if reason in found.examples else "")
        for reason, count in sorted(found.dropped.items(), key=lambda item: -item[1])
    ]
    return (
        f"{read.file.path}: {how}; " + "; ".join(filter(None, [ended, *reasons]))
        if ended or reasons
        else (f"{read.file.path}: {how}")
    )


def _aligned(lines: Sequence[tuple[str, ...]], more: Sequence[str] = ()) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = []
    for source, rule, *numbers in lines:
        cells = [source.ljust(widths[0]), rule.ljust(widths[1])]
        cells += [number.rjust(width) for number, width in zip(numbers, widths[2:], strict=True)]
        shown.append("  " + "  ".join(cells))
    return "\n".join([*shown, *more])


def _listed(files: Sequence[FileRead]) -> list[str]:
    """Describe files, in one or two lines for all that have one cause."""
    causes: dict[tuple[str, str, frozenset[str]], list[FileRead]] = {}
    for read in files:
        end = read.found.end
        causes.setdefault((end.outcome.value, end.detail, frozenset(read.found.dropped)), []).append(read)
    lines = []
    for first, *more in list(causes.values())[:MAX_LISTED]:
        lines.append(f"    {_described(first)}")
        if more:
            names = ", ".join(read.file.path for read in more[:MAX_NAMED]) + (", …" if len(more) > MAX_NAMED else "")
            lines.append(f"    and {len(more):,} more for the same reason: {names}")
    if rest := list(causes.values())[MAX_LISTED:]:
        lines.append(f"    and {sum(map(len, rest)):,} more files for other reasons")
    return lines


def _remedies(files: Sequence[FileRead]) -> Iterator[str]:
    for read in files:
        if read.found.end.outcome in (FileOutcome.UNREADABLE, FileOutcome.TRUNCATED):
            yield "repair or replace files that cannot be read, or state the source's `format`"
        if any(reason in _UNADAPTED for reason in read.found.dropped):
            yield (
                "state the source's `map`, `chat` (conversations) or `adapter`, which may be your own function, where "
                "rows were read and not understood"
            )
        elif read.found.dropped:
            yield "look at rows that were dropped for the reasons above"
        elif read.found.end.outcome in (FileOutcome.SKIPPED_NOT_DATA, FileOutcome.EMPTY):
            yield "correct the path of a source whose files have no rows, or state its `format`"
