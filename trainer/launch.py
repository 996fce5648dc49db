"""Start of a run: load the manifest, join the other ranks, build the run, train; or print its plan."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from pydantic import ByteSize, TypeAdapter, ValidationError

from corpus.cli import MISUSED, fail, say
from corpus.config import ConfigError, load_manifest
from corpus.storage.shortage import lack
from corpus.terminal import counted
from model.loading import CheckpointError
from trainer.build import build, check_epochs, plan_inputs
from trainer.config import TrainConfig
from trainer.data.dataset import Dataset, open_dataset
from trainer.data.draw import PlanError
from trainer.data.fetch import DatasetError
from trainer.data.plan import Plan, fit_lengths
from trainer.devices import device_failure, gpu_of
from trainer.distributed.world import World, is_lost_rank
from trainer.evaluators import Evaluator
from trainer.initialize import load_initial
from trainer.loop import Loop
from trainer.memory import describe, memory_of
from trainer.metrics import Sink
from trainer.resume import restore
from trainer.step import TrainingError
from trainer.stop import EXIT_RESUMABLE, StopRequest


def launch(
    manifest: str | Path,
    overrides: Sequence[str],
    *,
    dry_run: bool,
    request: StopRequest,
    allow: bool = False,
    ranks: int | None = None,
    device_memory: str | None = None,
) -> int:
    """Train from a manifest, or print its plan, and print what fails.

    Parameters
    ----------
    manifest, overrides
        YAML file, and `key=value` strings that replace keys of it.
    dry_run
        Only check the manifest and print the plan.
    request
        Entered.
    allow
        See `train`.
    ranks, device_memory
        For the dry run: number of ranks (None: as torchrun says, or 1), and memory of a device, such as 80GB (None:
        that of the GPU of this machine, if any).

    Returns
    -------
    int
        Exit code.
    """
    try:
        config = load_manifest(manifest, TrainConfig, overrides)
        if dry_run:
            return _dry_run(config, _open(config), ranks or int(os.environ.get("WORLD_SIZE", 1)), device_memory)
        if ranks is not None or device_memory is not None:
            raise ConfigError("--ranks and --device-memory are for --dry-run: remove them, or add it")
        return train(config, request=request, allow=allow)
    except ConfigError as error:
        return fail(error, MISUSED)
    except (DatasetError, PlanError, TrainingError) as error:
        return fail(error)
    except (CheckpointError, RuntimeError) as error:
        if is_lost_rank(error):
            return fail(
                "another rank has ended or cannot be reached, see its own message; the same command continues from the "
                f"last checkpoint ({str(error).strip().splitlines()[0]})",
                EXIT_RESUMABLE,
            )
        failure = device_failure(error)
        if failure is None and not isinstance(error, CheckpointError):
            raise
        return fail(failure or error)
    except (OSError, ValueError, MemoryError) as error:
        what = lack(error)
        if what is None and not isinstance(error, OSError):
            raise
        return fail(error if what is None else f"{what}; the same command continues ({error})")


def train(
    config: TrainConfig,
    *,
    sinks: Sequence[Sink] = (),
    evaluators: Sequence[Evaluator] = (),
    request: StopRequest | None = None,
    allow: bool = False,
) -> int:
    """Train from a config, or continue a run where its newest checkpoint is.

    Parameters
    ----------
    config
        The run.
    sinks
        Receive its metrics, besides metrics.jsonl, TensorBoard and the console.
    evaluators
        Run at step boundaries, besides the held-out evaluation and the diagnosis.
    request
        Stops the run at the next step boundary; None: signals are not handled.
    allow
        Continue although optimizer, schedule or precision are not those of the checkpoint.

    Returns
    -------
    int
        0, or `trainer.stop.EXIT_RESUMABLE` after a request to stop.

    Raises
    ------
    ConfigError
        The config cannot be used here, or another run is in its folder.
    trainer.data.fetch.DatasetError, trainer.data.draw.PlanError, trainer.step.TrainingError
        The dataset cannot be read or packed, or the loss is not finite in too many steps.
    model.loading.CheckpointError
        Checkpoints cannot be read or written.
    """
    world = World.join(config.device, sharded=config.distribution == "fsdp2")
    _set_up_torch(config, world)
    if world.is_main and config.device != "cpu":
        gpu = gpu_of(world.device)
        print(f"device: {'cpu, torch finds no CUDA device here' if gpu is None else gpu}", flush=True)
    with _locked(config, world):
        run = build(config, _open(config), world, sinks=sinks, evaluators=evaluators)
        try:
            code = Loop(run, restore(run, allow=allow), request or StopRequest()).train()
        finally:
            run.checkpoints.release()
    world.leave()
    return code


def _open(config: TrainConfig) -> Dataset:
    return open_dataset(config.data, config.cache_folder, storage_timeout=config.storage_timeout)


@contextmanager
def _locked(config: TrainConfig, world: World) -> Iterator[None]:
    """Refuse to start, on all ranks, while another run is in the folder. The lock of a killed run is released."""
    lock = FileLock(config.out / "run.lock")

    def acquire() -> None:
        config.out.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ConfigError(
                f"another process is training in {config.out}: wait for it, or set another out="
            ) from None

    world.broadcast_from_main(acquire)
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
        # Moments that decay to denormal numbers would slow every step down. Set before the first parallel operation, so
        # that torch's threads inherit it, and after numpy has computed its limits, since it warns if denormals are off.
        for dtype in (np.float32, np.float64):
            np.finfo(dtype)
        torch.set_flush_denormal(True)


def _dry_run(config: TrainConfig, dataset: Dataset, ranks: int, device_memory: str | None) -> int:
    device_bytes = _device_bytes(config, device_memory)
    if config.init is not None:
        load_initial(config, dataset)
    inputs = plan_inputs(config, dataset)
    lengths = fit_lengths(dataset.lengths, row_tokens=inputs.row_tokens, truncate=inputs.truncate)
    plan = Plan(inputs, dataset.strata, lengths)
    check_epochs(config, dataset, plan)
    model = config.model_config_for(dataset.vocab_size)
    first = plan.chunk(0, 0)
    packed = int(lengths[first.samples].sum(dtype=np.int64)) - len(first.samples)
    targets = int(first.targets.sum()) if config.objective == "response" else packed
    steps = config.steps or (config.epochs or 0) * plan.batches
    strata = counted(len(dataset.strata), "stratum", "strata")
    say(f"data        {config.data}: {counted(dataset.samples, 'sample')} in {strata}")
    draws = counted(plan.draws, "draw")
    print(f"epoch       {draws}, {plan.tokens:,} input tokens, targets for {targets / packed:.1%} of them")
    print(
        f"batches     {plan.batches:,} an epoch, of {counted(inputs.rows, 'row')} of {inputs.row_tokens:,} tokens, "
        f"{packed / (first.batches * inputs.batch_tokens):.2%} filled"
    )
    print(f"run         {'' if config.steps else 'about '}{counted(steps, 'step')}, {steps / plan.batches:.2f} epochs")
    print(f"model       {model.parameters:,} parameters, {model.core_parameters:,} of them not in embedding and head")
    on_gpu = device_bytes is not None
    plan_of_memory = memory_of(config, model, ranks=ranks, targets=targets / packed, on_gpu=on_gpu)
    lines = describe(plan_of_memory, ranks=ranks, k=config.depths(model)[1], device_bytes=device_bytes)
    for heading, line in zip(("memory", *("" for _ in lines[1:])), lines, strict=True):
        print(f"{heading:<11} {line}")
    return 0


def _device_bytes(config: TrainConfig, stated: str | None) -> int | None:
    """Memory of a device: as stated, or that of this machine's GPU; None for a CPU."""
    if stated is not None:
        try:
            return int(TypeAdapter(ByteSize).validate_python(stated))
        except ValidationError:
            raise ConfigError(f"--device-memory is {stated!r}; expected bytes, as in 80GB or 80GiB") from None
    if config.device == "cpu" or not torch.cuda.is_available():
        return None
    return int(torch.cuda.get_device_properties(0).total_memory)
