"""From a config to the parts of a run: batch plan, model, optimizer, checkpoints, metrics, evaluators.

TrainConfig, Dataset, World ─ build ─▶ Run ─ trainer.resume ─▶ Position ─ trainer.loop ─▶ trained model
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray

from corpus.config import ConfigError
from model.attention import Kernel
from model.config import ModelConfig
from model.execution import Execution, prepare
from model.hrm import HRM
from model.kernels import describe, fastest, measure, unavailable
from trainer.benchmarks.evaluator import benchmarks_of
from trainer.checkpointing.manager import CheckpointManager
from trainer.config import Logger, TrainConfig
from trainer.data.dataset import Dataset
from trainer.data.plan import Plan, PlanInputs, fit_lengths
from trainer.devices import check_device, gpu_of
from trainer.distributed.layout import Replicated, Sharded, WeightLayout
from trainer.distributed.world import World
from trainer.evaluators import Diagnosis, Evaluator, HeldOut
from trainer.metrics import Metrics, Sink
from trainer.optim import AdamAtan2
from trainer.sinks.console import Console
from trainer.sinks.jsonl import FILE, JsonLines
from trainer.sinks.mlflow import MLflow
from trainer.sinks.tensorboard import TensorBoard
from trainer.sinks.trackio import Trackio
from trainer.sinks.wandb import WandB

EVALUATION_ROW_TOKENS = 4096
"""Longest row of the held-out evaluation, whose dense masks grow with its square; longer questions have longer rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The parts of a training run in one of its processes."""

    config: TrainConfig
    dataset: Dataset
    world: World
    lengths: NDArray[np.uint16]
    """[N, 2] prefix and response length of every sample as it is trained on, in tokens."""
    plan: Plan
    total_steps: int
    """Expected number of steps, for schedules; epochs may have a few batches more or less than the first chunk says."""
    model: HRM
    layout: WeightLayout
    optimizer: AdamAtan2
    checkpoints: CheckpointManager
    metrics: Metrics
    evaluators: tuple[Evaluator, ...]

    def autocast(self) -> AbstractContextManager[object]:
        """Precision of forward passes, as a context manager."""
        if self.config.precision == "bf16":
            return torch.autocast(self.world.device.type, torch.bfloat16)
        return nullcontext()


def build(
    config: TrainConfig,
    dataset: Dataset,
    world: World,
    *,
    sinks: Sequence[Sink] = (),
    evaluators: Sequence[Evaluator] = (),
) -> Run:
    """Build the parts of a run.

    Parameters
    ----------
    config, dataset
        What to train, on which data.
    world
        The processes that train together.
    sinks, evaluators
        Added to those of the config.

    Raises
    ------
    ConfigError
        The device, the dataset or the set of evaluators does not allow what the config asks for.
    trainer.data.draw.PlanError
        The dataset cannot be packed as the config asks.
    """
    check_device(config, gpu_of(world.device))
    lengths = fit_lengths(dataset.lengths, row_tokens=config.batch.row_tokens, truncate=config.batch.truncate)
    plan = Plan(plan_inputs(config, dataset), dataset.strata, lengths, config.out / "plans")
    check_epochs(config, dataset, plan)
    plan.chunk(0, 0).rows_of_rank(0, lengths, rank=world.rank, world_size=world.size)
    total_steps = config.steps or (config.epochs or 0) * plan.batches
    model_config = config.model_config_for(dataset.vocab_size)
    model = HRM(model_config, seed=config.seed).to(world.device)
    prepare(model, _execution(config, plan, model_config, world))
    layout = _layout(config, model, world)
    optimizer = AdamAtan2(
        model.named_parameters(),
        lr=config.optimizer.lr,
        betas=config.optimizer.betas,
        weight_decay=config.optimizer.weight_decay,
        ema=config.optimizer.ema,
        moments=torch.bfloat16 if config.optimizer.moments == "bf16" else None,
        fused=_has_fused_update(world),
    )
    checkpoints = CheckpointManager(
        config.checkpoint_url,
        staging=config.out / "staging" / f"node-{world.node}",
        keep=config.checkpoint.keep,
        keep_every=config.checkpoint.keep_every,
        storage_timeout=config.storage_timeout,
        world=world,
        history=config.out / FILE,
    )
    return Run(
        config=config,
        dataset=dataset,
        world=world,
        lengths=lengths,
        plan=plan,
        total_steps=total_steps,
        model=model,
        layout=layout,
        optimizer=optimizer,
        checkpoints=checkpoints,
        metrics=_metrics(config, total_steps, sinks) if world.is_main else Metrics(),
        evaluators=_evaluators(config, dataset, evaluators),
    )


def plan_inputs(config: TrainConfig, dataset: Dataset) -> PlanInputs:
    """Inputs of the batch plan of a run."""
    return PlanInputs(
        fingerprint=dataset.fingerprint,
        seed=config.seed,
        batch_tokens=config.batch.tokens,
        row_tokens=config.batch.row_tokens,
        truncate=config.batch.truncate,
    )


def check_epochs(config: TrainConfig, dataset: Dataset, plan: Plan) -> None:
    """Raise if a run is longer than the epochs that the dataset was built for.

    Raises
    ------
    ConfigError
        It is: capped strata would repeat some samples, while others of theirs are not in the dataset.
    """
    if dataset.epochs is None:
        return
    built = f"the dataset was built for {dataset.epochs:,} {'epoch' if dataset.epochs == 1 else 'epochs'}"
    remedy = "build it with a larger `epochs` (or epochs=null) in the mix"
    if config.epochs is not None and config.epochs > dataset.epochs:
        raise ConfigError(f"epochs is {config.epochs:,}, but {built}: set epochs={dataset.epochs}, or {remedy}")
    most = dataset.epochs * plan.batches
    if config.steps is not None and config.steps > most:
        raise ConfigError(
            f"steps is {config.steps:,}, which is {config.steps / plan.batches:.2f} epochs, but {built}: set "
            f"epochs={dataset.epochs} instead of steps, or steps={most} or fewer, or {remedy}"
        )


def _execution(config: TrainConfig, plan: Plan, model: ModelConfig, world: World) -> Execution:
    return Execution(
        attention=_attention(config, plan, model, world),
        compile=config.compile,
        recompute=config.recompute,
        float8=config.float8,
    )


def _attention(config: TrainConfig, plan: Plan, model: ModelConfig, world: World) -> Kernel:
    """The attention kernel of the config, or the fastest one; the same on each rank."""
    device, dtype = world.device, torch.bfloat16 if config.precision == "bf16" else torch.float32
    if config.attention != "auto":
        if refused := unavailable(config.attention, device=device, dtype=dtype):
            raise ConfigError(f"attention: {config.attention} {refused}; set attention=auto")
        return config.attention
    if device.type == "cpu":
        return "dense"  # the only one with a backward pass on a CPU
    rows = plan.inputs.rows // world.size
    shape = {
        "rows": min(rows, config.batch.micro_rows or rows),
        "length": config.batch.row_tokens,
        "sample_tokens": max(1, plan.tokens // plan.draws),
    }
    timings = world.broadcast_from_main(lambda: measure(model, **shape, device=device, dtype=dtype))
    if world.is_main:
        print(f"attention: {fastest(timings)} ({describe(timings)})", flush=True)
    return fastest(timings)


def _has_fused_update(world: World) -> bool:
    """Whether the optimizer updates by its kernel, on all ranks or on none, so that replicas stay equal."""
    if world.device.type != "cuda":
        return False
    if find_spec("triton") is None:
        reason = "triton is not installed"
    else:
        from trainer.fused import refusal

        reason = refusal(world.device)
    reasons = [reason for reason in world.share(reason) if reason]
    if reasons and world.is_main:
        print(f"optimizer: updates by operations of torch, slower than by one kernel ({reasons[0]})", flush=True)
    return not reasons


def _layout(config: TrainConfig, model: HRM, world: World) -> WeightLayout:
    if config.distribution == "ddp":
        return Replicated(model, world)
    return Sharded(model, world, dtype=torch.bfloat16 if config.precision == "bf16" else None)


def _metrics(config: TrainConfig, total_steps: int, sinks: Sequence[Sink]) -> Metrics:
    makers: dict[Logger, Callable[[], Sink]] = {
        "tensorboard": lambda: TensorBoard(config.out / "tensorboard"),
        "wandb": lambda: WandB(config.out, config.redacted()),
        "mlflow": lambda: MLflow(config.out, config.redacted()),
        "trackio": lambda: Trackio(config.out, config.redacted()),
    }
    chosen = [makers[name]() for name in config.loggers]
    return Metrics([JsonLines(config.out / FILE), *chosen, *sinks], Console(total_steps))


def _evaluators(config: TrainConfig, dataset: Dataset, added: Sequence[Evaluator]) -> tuple[Evaluator, ...]:
    found: list[Evaluator] = []
    tokenizer = dataset.tokenizer()
    if config.eval.rows_per_family and dataset.eval_files:
        found.append(
            HeldOut(
                dataset=dataset,
                tokenizer=tokenizer,
                every=config.eval.every,
                rows_per_family=config.eval.rows_per_family,
                row_tokens=min(config.batch.row_tokens, EVALUATION_ROW_TOKENS),
                out=None if config.distribution == "fsdp2" else config.out,
            )
        )
    if config.eval.tasks is not None:
        found.append(benchmarks_of(config.eval.tasks, dataset, folder=config.out / "benchmarks", seed=config.seed))
    if config.diagnose.every:
        found.append(
            Diagnosis(
                dataset=dataset,
                tokenizer=tokenizer,
                every=config.diagnose.every,
                rows_per_family=config.diagnose.rows_per_family,
                folder=config.out / "diagnostics",
            )
        )
    found += added
    names = Counter(["step", "checkpoint", *(evaluator.name for evaluator in found)])
    if repeated := [name for name, count in names.items() if count > 1]:
        raise ConfigError(f"several kinds of metrics are named {repeated[0]!r}: give each evaluator another name")
    return tuple(found)
