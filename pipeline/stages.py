"""The stages of a build, in order, over the inputs of a mix.

    ingest ─▶ exact ─▶ draw ahead ─▶ near ─▶ decontaminate ─▶ caps ─▶ draw ─▶ scatter ─▶ tokenizer ─▶ encode ─▶ assemble
                  └─────── eval sources ─┴──────────────────────────▶ eval ────────────────────────────┘

Only small numbers per file, stratum and bucket pass through here; rows go from step to step on disk.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

from corpus.formats.ranges import ByteRange
from pipeline.dataset.assemble import Assemble, SourceFacts
from pipeline.decontaminate.contaminated import drop_contaminated
from pipeline.dedup.caps import drop_over_caps
from pipeline.dedup.exact import drop_exact_duplicates
from pipeline.dedup.near.duplicates import drop_near_duplicates
from pipeline.engine.executor import Executor
from pipeline.engine.step import BuildError
from pipeline.guard import FileRead, Guard, dropped_between
from pipeline.ingest.inputs import Input
from pipeline.ingest.live import LiveRecords, Part
from pipeline.ingest.step import Ingest, Ingested, TaskSize, whole_file
from pipeline.manifest import Mix
from pipeline.shards.draw import draw_ahead, drop_undrawn
from pipeline.shards.encode import Encode
from pipeline.shards.evals import WriteEval
from pipeline.shards.shuffle import PlannedStratum, Scatter, plan
from pipeline.shards.tokenizer import FAST, REFERENCE, GivenTokenizer, TokenizerStep, TrainTokenizer, engine

MAX_STRATA = 100_000

Tasks = Mapping[str, Mapping[str, TaskSize]]
"""Key of each `Ingest` to the sizes of its tasks."""

log = logging.getLogger(__name__)


def run_stages(
    mix: Mix, inputs: Sequence[Input], *, build_key: str, lock: str, tokenizer: str | None, executor: Executor
) -> Assemble:
    """Complete every stage.

    Parameters
    ----------
    mix, inputs
        The manifest, and the files of its sources.
    build_key, lock
        Recorded in the dataset.
    tokenizer
        Text of a given `tokenizer.json`; None to train one.
    executor
        Completes steps.

    Returns
    -------
    Assemble
        The completed step that has the dataset's files.

    Raises
    ------
    BuildError
        A stage failed, a source yields nothing or loses more than its guard allows, or no pair is left to train on.
    """
    # A file that is divided has a step for each of its ranges.
    ingests = [[_ingest(mix, item, span) for span in item.ranges or (None,)] for item in inputs]
    results = iter(executor.map([step for steps in ingests for step in steps]))
    ingested = [[next(results) for _ in steps] for steps in ingests]
    guard = Guard(
        mix,
        [
            FileRead(spec=item.spec, file=item.file, found=whole_file(found))
            for item, found in zip(inputs, ingested, strict=True)
        ],
    )
    guard.check_files()

    # Train sources are deduplicated together, each eval source alone.
    evals = [spec.name for spec in mix.sources if spec.role == "eval"]
    parts = [
        _part(item, step, result)
        for item, steps, found in zip(inputs, ingests, ingested, strict=True)
        for step, result in zip(steps, found, strict=True)
    ]
    train = LiveRecords(parts=tuple(part for part in parts if part.source not in evals))
    held_out = [LiveRecords(parts=tuple(part for part in parts if part.source == name)) for name in evals]
    if mix.exact_dedup.enabled:
        before = [train, *held_out]
        train, *held_out = after = drop_exact_duplicates(before, executor)
        for pair in zip(before, after, strict=True):
            guard.check(dropped_between(*pair))
    tasks = {
        step.key: result.tasks
        for steps, found in zip(ingests, ingested, strict=True)
        for step, result in zip(steps, found, strict=True)
    }
    before_draw = train
    train, ahead = draw_ahead(train, mix, tasks, executor)
    not_curated = dropped_between(before_draw, train)
    left_out = [spec.name for spec in mix.sources if not spec.near_dedup]
    for drop in (
        lambda records: drop_near_duplicates(records, mix.near_dedup, executor, left_out),
        lambda records: drop_contaminated(records, held_out, mix.decontaminate, executor),
        lambda records: drop_over_caps(records, mix.caps, executor),
        lambda records: drop_undrawn(records, mix, tasks, executor, ahead),
    ):
        left = drop(train)
        guard.check(dropped_between(train, left), not_curated)
        train = left

    strata, buckets = _plan(mix, train, tasks)
    scatters = _scatters(mix, train, tasks, strata, _sample_threshold(mix, train, tokenizer))
    scattered = executor.map(scatters)
    if sum(result.records for result in scattered) == 0:
        raise BuildError("no pair of any train source is left; `--dry-run` shows how files are read and rows adapted")
    scatter_keys = tuple(step.key for step in scatters)

    tokenizer_step: TokenizerStep = (
        TrainTokenizer(inputs=scatter_keys, vocab_size=mix.tokenizer.vocab_size)
        if tokenizer is None
        else GivenTokenizer(json_text=tokenizer)
    )
    executor.map([tokenizer_step])
    encodes = _encode(mix, scatter_keys, tokenizer_step.key, buckets, executor)
    eval_steps = [
        WriteEval(source=name, inputs=records.inputs, drops=records.drops)
        for name, records in zip(evals, held_out, strict=True)
    ]
    executor.map(eval_steps)

    assemble = Assemble(
        name=mix.name,
        build_key=build_key,
        lock=lock,
        sources=tuple(
            SourceFacts(name=spec.name, role=spec.role, max_per_epoch=spec.max_per_epoch, repeat=spec.repeat)
            for spec in mix.sources
        ),
        epochs=mix.epochs,
        files=tuple(item.facts for item in inputs),
        ingests=tuple(tuple(step.key for step in steps) for steps in ingests),
        strata=tuple((stratum.source, stratum.task) for stratum in strata),
        scatter=scatter_keys,
        encode=tuple(step.key for step in encodes),
        evals=tuple((step.source, step.key) for step in eval_steps),
        tokenizer=tokenizer_step.key,
        drops=train.drops,
        shard_size=mix.shards.size,
        license=mix.license,
    )
    executor.map([assemble])
    counts = Assemble.dataset(executor.work, assemble.key).counts
    guard.check({source: count.dropped for source, count in counts.items()})
    return assemble


def _ingest(mix: Mix, item: Input, span: ByteRange | None) -> Ingest:
    return Ingest(
        identity=item.identity,
        clean=mix.clean,
        rules=mix.rules if item.spec.role == "train" else None,
        span=span,
        spec=item.spec,
        file=item.file,
        stamp=item.stamp,
        sha256=item.sha256,
    )


def _part(item: Input, step: Ingest, result: Ingested) -> Part:
    return Part(
        source=item.spec.name,
        priority=item.order,
        key=step.key,
        records=result.records,
        bytes=sum(size.bytes for size in result.tasks.values()),
    )


def _plan(mix: Mix, records: LiveRecords, tasks: Tasks) -> tuple[list[PlannedStratum], int]:
    """Plan the strata and return them with the number of buckets.

    Which tasks of a file lost how much is not known, so a task counts with the size that `Ingest` found or with what is
    left of the file, whichever is less; the `meta` of its records counts too.
    """
    sizes: Counter[tuple[int, str]] = Counter()
    for number, part in enumerate(records.parts):
        left = part.bytes - records.lost_bytes.get(number, 0)
        for task, size in tasks[part.key].items():
            sizes[part.priority, task] += min(size.bytes, left) + size.meta_bytes if left else 0
    if len(sizes) > MAX_STRATA:
        raise BuildError(
            f"the sources have {len(sizes):,} strata (source, task), expected at most {MAX_STRATA:,}. "
            "A `task: column:NAME` with too many values is the usual cause: use `task: file` or `task: source`"
        )
    ordered = [(mix.sources[priority].name, task, size) for (priority, task), size in sorted(sizes.items())]
    return plan(ordered, records.bytes)


def _sample_threshold(mix: Mix, records: LiveRecords, tokenizer: str | None) -> int:
    """Return the draw (of 2^64) below which pairs are in the sample that the tokenizer is trained on."""
    if tokenizer is not None:
        return 0
    return min(2**64, (mix.tokenizer.sample_bytes << 64) // max(records.bytes, 1))


def _scatters(
    mix: Mix, records: LiveRecords, tasks: Tasks, strata: Sequence[PlannedStratum], threshold: int
) -> list[Scatter]:
    numbers = {(stratum.source, stratum.task): stratum.number for stratum in strata}
    steps = []
    for group in records.groups():
        found = {numbers[records.parts[number].source, task] for number, key in group for task in tasks[key]}
        steps.append(
            Scatter(
                inputs=group,
                drops=records.drops,
                strata=tuple(strata[number] for number in sorted(found)),
                seed=mix.seed,
                sample_threshold=threshold,
            )
        )
    return steps


def _encode(mix: Mix, scatter_keys: tuple[str, ...], tokenizer: str, buckets: int, executor: Executor) -> list[Encode]:
    """Encode all buckets by the fast engine or, if it differs from the reference anywhere, all by the reference."""

    def steps(engine: str) -> list[Encode]:
        return [
            Encode(
                inputs=scatter_keys,
                tokenizer=tokenizer,
                bucket=bucket,
                buckets=buckets,
                seed=mix.seed,
                engine=engine,
                max_tokens=mix.samples.max_tokens,
                overlong=mix.samples.overlong,
                min_response_tokens=mix.samples.min_response_tokens,
                shard_size=mix.shards.size,
            )
            for bucket in range(buckets)
        ]

    chosen = engine()
    if chosen == REFERENCE:
        log.warning("%s is not installed; texts are encoded by %s, which is slower", FAST, REFERENCE)
    encodes = steps(chosen)
    mismatch = next((result.mismatch for result in executor.map(encodes) if result.mismatch), None)
    if mismatch is not None:
        log.warning("%s; the whole mix is encoded by %s instead, which is slower", mismatch, REFERENCE)
        encodes = steps(REFERENCE)
        executor.map(encodes)
    return encodes
