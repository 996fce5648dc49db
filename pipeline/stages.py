"""The stages of a build, in order, over the inputs of a mix.

    ingest ─▶ exact ─▶ near ─▶ decontaminate ─▶ caps ─▶ scatter ─▶ tokenizer ─▶ encode ─▶ assemble
                  └─────── eval sources ─┴──────────────────────▶ eval ───────────────────────┘

Only small numbers per file, stratum and bucket pass through here; rows go from
step to step on disk.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from corpus.contract import COMMIT
from pipeline.dataset.assemble import Assemble
from pipeline.decontaminate.steps import drop_contaminated
from pipeline.dedup.caps import drop_over_caps
from pipeline.dedup.exact import drop_exact_duplicates
from pipeline.dedup.near.steps import drop_near_duplicates
from pipeline.engine.executor import Executor
from pipeline.engine.step import BuildError, folder
from pipeline.guard import Guard, dropped_between
from pipeline.ingest.inputs import Input
from pipeline.ingest.step import Ingest
from pipeline.manifest import Mix
from pipeline.records.drops import Part, Scope
from pipeline.shards.encode import Encode
from pipeline.shards.evals import WriteEval
from pipeline.shards.shuffle import Scatter, Stratum, plan, scatter_groups
from pipeline.shards.tokenizer import FAST, REFERENCE, GivenTokenizer, TrainTokenizer, engine

MAX_STRATA = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """An ingested file."""

    item: Input
    key: str
    result: dict[str, Any]


def build(
    mix: Mix,
    inputs: Sequence[Input],
    *,
    build_key: str,
    lock: str,
    tokenizer: str | None,
    executor: Executor,
    warn: Callable[[str], None],
) -> Assemble:
    """Complete every stage.

    Parameters
    ----------
    mix, inputs
        The manifest, and the files of its sources.
    build_key, lock
        Recorded in the dataset.
    tokenizer
        Text of a given `tokenizer.json`, or None to train one.
    executor
        Completes steps.
    warn
        Takes a sentence that the user should read.

    Returns
    -------
    Assemble
        The completed step that has the dataset's files.

    Raises
    ------
    BuildError
        A stage failed, or nothing is left to train on.
    """
    clean = mix.clean.model_dump(mode="json")
    ingests = [
        Ingest(
            identity=item.identity,
            clean=clean,
            rules=mix.rules if item.spec.role == "train" else None,
            spec=item.spec,
            file=item.file,
            stamp=item.stamp,
            sha256=item.sha256,
        )
        for item in inputs
    ]
    results = executor.map(ingests)
    partitions = [
        Partition(item=item, key=step.key, result=result)
        for item, step, result in zip(inputs, ingests, results, strict=True)
    ]
    guard = _guard(mix, partitions)
    evals = [spec.name for spec in mix.sources if spec.role == "eval"]
    # Train sources are deduplicated together, each eval source by itself alone.
    groups = [[partition for partition in partitions if partition.item.spec.role == "train"]]
    groups += [[partition for partition in partitions if partition.item.spec.name == name] for name in evals]
    scopes = [_scope(group) for group in groups]
    if mix.exact_dedup.enabled:
        before, scopes = scopes, drop_exact_duplicates(scopes, executor)
        for mine, after in zip(before, scopes, strict=True):
            guard.check(dropped_between(mine, after))
    scope, *eval_scopes = scopes
    stages: tuple[Callable[[Scope], Scope], ...] = (
        lambda scope: drop_near_duplicates(scope, mix.near_dedup, executor),
        lambda scope: drop_contaminated(scope, eval_scopes, mix.decontaminate, executor),
        lambda scope: drop_over_caps(scope, mix.caps, executor),
    )
    for stage in stages:
        after = stage(scope)
        guard.check(dropped_between(scope, after))
        scope = after

    tasks = {partition.key: partition.result["tasks"] for partition in partitions}
    strata, buckets = _plan(mix, scope, tasks)
    threshold = (
        0 if tokenizer is not None else min(2**64, (mix.tokenizer.sample_bytes << 64) // max(scope.live_bytes, 1))
    )
    scatters = _scatters(mix, scope, tasks, strata, threshold)
    scattered = executor.map(scatters)
    scatter_keys = tuple(step.key for step in scatters)
    if sum(result["survivors"] for result in scattered) == 0:
        raise BuildError("no pair of any train source is left; `--dry-run` shows how files are read and rows adapted")

    tokenizer_step = (
        TrainTokenizer(inputs=scatter_keys, vocab_size=mix.tokenizer.vocab_size)
        if tokenizer is None
        else GivenTokenizer(text=tokenizer)
    )
    executor.map([tokenizer_step])
    encodes = _encode(mix, scatter_keys, tokenizer_step.key, buckets, executor, warn)
    eval_steps = [
        WriteEval(source=name, inputs=mine.inputs, drops=mine.drops)
        for name, mine in zip(evals, eval_scopes, strict=True)
    ]
    executor.map(eval_steps)

    assemble = Assemble(
        name=mix.name,
        build_key=build_key,
        lock=lock,
        sources=tuple(
            spec.model_dump(mode="json", include={"name", "role", "max_per_epoch", "repeat"}) for spec in mix.sources
        ),
        files=tuple(_facts(partition) for partition in partitions),
        strata=tuple((stratum.source, stratum.task) for stratum in strata),
        scatter=scatter_keys,
        encode=tuple(step.key for step in encodes),
        evals=tuple((step.source, step.key) for step in eval_steps),
        tokenizer=tokenizer_step.key,
        drops=scope.drops,
    )
    executor.map([assemble])
    dataset = json.loads((folder(executor.work, assemble.stage, assemble.key) / COMMIT).read_text(encoding="utf-8"))
    guard.check({source: count["dropped"] for source, count in dataset["counts"].items()})
    return assemble


def _guard(mix: Mix, partitions: Sequence[Partition]) -> Guard:
    """The guard, which has looked at what was dropped while reading and cleaning."""
    entered: Counter[str] = Counter()
    dropped: dict[str, Counter[str]] = {spec.name: Counter() for spec in mix.sources}
    for partition in partitions:
        name, result = partition.item.spec.name, partition.result
        entered[name] += result["pairs"] + result["rejected"]
        dropped[name].update(result["dropped"])
    guard = Guard(mix, entered)
    guard.check(dropped)
    return guard


Tasks = Mapping[str, Mapping[str, Mapping[str, int]]]
"""For the key of each `Ingest`: rows and bytes of each of its tasks."""


def _scope(partitions: Sequence[Partition]) -> Scope:
    return Scope(
        parts=tuple(
            Part(
                source=partition.item.spec.name,
                order=partition.item.order,
                key=partition.key,
                records=partition.result["records"],
                bytes=sum(total["bytes"] for total in partition.result["tasks"].values()),
            )
            for partition in partitions
        )
    )


def _plan(mix: Mix, scope: Scope, tasks: Tasks) -> tuple[list[Stratum], int]:
    """Strata with their buckets, and the number of buckets.

    Buckets are cut by the sizes that `Ingest` counted, or by what is left of a task's file where that is less: a bound,
    whichever tasks of the file lost how much. What rows carry along counts too.
    """
    sizes: dict[tuple[int, str], int] = {}
    for number, part in enumerate(scope.parts):
        left = part.bytes - scope.lost_bytes.get(number, 0)
        for task, total in tasks[part.key].items():
            place = (part.order, task)
            sizes[place] = sizes.get(place, 0) + (min(total["bytes"], left) + total["meta_bytes"] if left else 0)
    if len(sizes) > MAX_STRATA:
        raise BuildError(
            f"the sources have {len(sizes):,} strata (source, task); at most {MAX_STRATA:,} make sense. "
            "A `task: column:NAME` with too many values is the usual cause: use `task: file` or `task: source`"
        )
    ordered = [(mix.sources[order].name, task, size) for (order, task), size in sorted(sizes.items())]
    return plan(ordered, scope.live_bytes)


def _scatters(mix: Mix, scope: Scope, tasks: Tasks, strata: Sequence[Stratum], threshold: int) -> list[Scatter]:
    """One step for each large partition, one for several small neighbours."""
    numbers = {(stratum.source, stratum.task): number for number, stratum in enumerate(strata)}
    groups = scatter_groups([part.bytes for part in scope.parts])
    steps = []
    for group in groups:
        names = sorted({numbers[scope.parts[n].source, task] for n in group for task in tasks[scope.parts[n].key]})
        chosen = tuple((n, strata[n].source, strata[n].task, strata[n].first, strata[n].span) for n in names)
        steps.append(
            Scatter(
                inputs=tuple(scope.inputs[number] for number in group),
                drops=scope.drops,
                strata=chosen,
                seed=mix.seed,
                sample_threshold=threshold,
            )
        )
    return steps


def _encode(
    mix: Mix,
    scatter_keys: tuple[str, ...],
    tokenizer: str,
    buckets: int,
    executor: Executor,
    warn: Callable[[str], None],
) -> list[Encode]:
    """Encode all buckets by the fast engine, or, if it ever disagrees with the reference, all by the reference."""

    def steps(name: str) -> list[Encode]:
        return [
            Encode(
                inputs=scatter_keys,
                tokenizer=tokenizer,
                bucket=bucket,
                seed=mix.seed,
                engine=name,
                max_tokens=mix.samples.max_tokens,
                overlong=mix.samples.overlong,
                min_response_tokens=mix.samples.min_response_tokens,
                shard_size=mix.shards.size,
            )
            for bucket in range(buckets)
        ]

    chosen = engine()
    fast = steps(chosen)
    mismatch = next((result["mismatch"] for result in executor.map(fast) if result["mismatch"]), None)
    if chosen == FAST and mismatch is None:
        return fast
    if chosen == FAST:
        warn(f"{mismatch}; the whole mix is encoded by {REFERENCE} instead, which is slower")
        fast = steps(REFERENCE)
        executor.map(fast)
    else:
        warn(f"{FAST} is not installed; texts were encoded by {REFERENCE}, which is slower")
    return fast


def _facts(partition: Partition) -> dict[str, Any]:
    file = partition.item.file
    return {
        "source": partition.item.spec.name,
        "file": file.path,
        "url": partition.item.place,
        "bytes": file.bytes,
        "sha256": partition.item.sha256,
        "format": file.format,
        "compression": file.compression,
        "adapter": file.adapter,
        "key": partition.key,
    }
