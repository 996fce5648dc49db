"""What `python -m trainer.train` does with its arguments: load the manifest, join the other ranks, train or look."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout

from corpus.config import ConfigError, load_manifest
from model.loading import CheckpointError
from trainer.checkpointing.objects import StorageError
from trainer.config import TrainConfig
from trainer.data.dataset import Dataset, open_dataset
from trainer.data.draw import PlanError
from trainer.data.fetch import DatasetError, shown
from trainer.data.plan import Plan, fit_lengths
from trainer.distributed.world import World
from trainer.loop import Run, TrainingError, model_memory, plan_inputs
from trainer.stop import StopRequest


def launch(manifest: str | Path, overrides: Sequence[str], *, dry_run: bool, request: StopRequest) -> int:
    """Train as a manifest says, or print what that would be.

    Parameters
    ----------
    manifest, overrides
        File, and `key=value` that replaces a key of it.
    dry_run
        Check and print only.
    request
        Entered.

    Returns
    -------
    int
        Exit code; what went wrong has been said on stderr.
    """
    try:
        config = load_manifest(manifest, TrainConfig, overrides)
        if dry_run:
            return _dry_run(config, open_dataset(config.data, config.cache_folder, deadline=config.deadline))
        return _train(config, request)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except (DatasetError, PlanError, CheckpointError, StorageError, TrainingError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def _train(config: TrainConfig, request: StopRequest) -> int:
    world = World.join(config.device, sharded=config.distribution == "fsdp2")
    _set_up_torch(config, world)
    with _alone(config, world):
        run = Run(config, open_dataset(config.data, config.cache_folder, deadline=config.deadline), world)
        code = run.train(request)
    world.leave()
    return code


@contextmanager
def _alone(config: TrainConfig, world: World) -> Iterator[None]:
    """Keep other runs out of the run's folder, all ranks of them; a run that is killed keeps nobody out."""
    lock = FileLock(config.out / "run.lock")

    def take() -> None:
        config.out.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ConfigError(
                f"another process is training in {config.out}: wait for it, or set another out="
            ) from None

    world.broadcast_from_main(take)
    try:
        yield
    finally:
        lock.release()


def _set_up_torch(config: TrainConfig, world: World) -> None:
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if world.device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        # Moments that fade to denormal numbers would slow every step down. Set before the first parallel operation, so
        # that torch's threads inherit it, and after numpy has looked up what it would complain about from then on.
        for dtype in (np.float32, np.float64):
            np.finfo(dtype)
        torch.set_flush_denormal(True)


def _dry_run(config: TrainConfig, dataset: Dataset) -> int:
    inputs = plan_inputs(config, dataset)
    lengths = fit_lengths(dataset.lengths, row_tokens=inputs.row_tokens, truncate=inputs.truncate)
    plan = Plan(inputs, dataset.strata, lengths)
    model = config.model_config_for(dataset.vocab_size)
    first = plan.chunk(0, 0)
    packed = int(lengths[first.samples].sum(dtype=np.int64))
    targets = int(first.targets.sum()) if config.objective == "response" else packed - len(first.samples)
    steps = config.steps or (config.epochs or 0) * plan.batches
    print(f"data        {shown(config.data)}: {dataset.samples:,} samples in {len(dataset.strata)} strata")
    print(f"epoch       {plan.draws:,} draws, {plan.tokens:,} tokens, {targets / packed:.1%} of them targets")
    print(
        f"batches     {plan.batches:,} an epoch, of {inputs.rows} rows of {inputs.row_tokens:,} tokens, "
        f"{packed / (first.batches * inputs.batch_tokens):.2%} filled"
    )
    print(f"run         {'' if config.steps else 'about '}{steps:,} steps, {steps / plan.batches:.2f} epochs")
    print(f"model       {model.parameters:,} parameters, {model.core_parameters:,} of them not in embedding and head")
    print(f"memory      {model_memory(model) / 2**20:,.0f} MiB for weights and optimizer; activations come on top")
    return 0
