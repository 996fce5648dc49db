"""One optimizer step, and the compilation before the first one.

Step (rows of this rank) ─ forward, backward ─▶ gradients and loss summed over ranks ─▶ clipped ─▶ optimizer
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from model.batch import IGNORE, PackedBatch
from trainer.build import Run
from trainer.data.loader import Step
from trainer.distributed.stragglers import StragglerMonitor
from trainer.position import Position
from trainer.schedule import gradient_depth, learning_rate


class TrainingError(Exception):
    """Training cannot continue; the message says at which step, why, and what to try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """Outcome of an optimizer step, the same on every rank."""

    position: Position
    """Of the run after the step."""
    values: dict[str, float]
    """For the metrics."""
    stop: bool
    """Whether some rank was asked to stop."""
    all_ready: bool
    """Whether every rank has its next batch."""


def train_step(
    run: Run,
    position: Position,
    step: Step,
    stragglers: StragglerMonitor,
    *,
    stop_requested: Callable[[], bool],
    next_ready: Callable[[], bool],
) -> StepResult:
    """Do one optimizer step; a loss or gradient that is not finite leaves the weights unchanged.

    Parameters
    ----------
    run, position
        The run, and its position before the step.
    step
        What to compute on.
    stragglers
        Times forward and backward pass.
    stop_requested, next_ready
        Whether this rank was asked to stop, and has its next batch; called after the backward pass. Both are summed
        over ranks together with the loss.

    Raises
    ------
    TrainingError
        More than `max_skipped` steps had a loss or gradient that is not finite.
    """
    config = run.config
    lr = learning_rate(position.step, run.total_steps, peak=config.optimizer.lr, schedule=config.schedule)
    depths = config.depths(run.model.config)
    k = gradient_depth(position.step, run.total_steps, depths=depths, ramp=config.schedule.k_ramp)
    stragglers.compute_started()
    loss_share = _backward(run, step, k)
    stragglers.compute_ended()
    run.layout.reduce_gradients()
    flags = [float(stop_requested()), float(not next_ready())]
    status = torch.tensor([0.0, *flags], dtype=torch.float64, device=run.world.device)
    status[0] = loss_share
    run.world.sum(status)
    norm = run.layout.gradient_norm()
    loss, stops, not_ready = status.tolist()
    is_finite = math.isfinite(loss) and math.isfinite(norm)
    if is_finite:
        if config.optimizer.clip_norm is not None and norm > config.optimizer.clip_norm:
            run.layout.scale_gradients(config.optimizer.clip_norm / norm)
        for group in run.optimizer.param_groups:
            group["lr"] = lr
        run.optimizer.step()
    position = replace(
        position,
        step=position.step + 1,
        updates=position.updates + is_finite,
        epoch=step.epoch,
        chunk=step.chunk,
        next_batch=step.index + 1,
        plan_hash=step.plan_hash,
    )
    skipped = position.step - position.updates
    if skipped > config.max_skipped:
        raise TrainingError(
            f"step {position.step:,}: loss {loss} and gradient norm {norm}; {skipped} steps were skipped for such "
            f"values, and max_skipped is {config.max_skipped}: lower optimizer.lr, or set optimizer.clip_norm"
        )
    values = {
        "loss": loss,
        "lr": lr,
        "k": k,
        "gradient_norm": norm,
        "epoch": step.epoch,
        "chunk": step.chunk,
        "batch": step.index,
        "tokens": step.tokens,
        "target_tokens": step.targets,
        "skipped": skipped,
    }
    return StepResult(position=position, values=values, stop=stops > 0, all_ready=not_ready == 0)


def compile_ahead(run: Run) -> None:
    """Run forward and backward pass once for each K and shape of a pass, so that no later step compiles anything.

    The batch is made up: one sample per row. Its gradients are discarded; weights and random state do not change.
    """
    rows = run.plan.inputs.rows // run.world.size
    shape = (rows, run.plan.inputs.row_tokens)
    batch = PackedBatch(
        tokens=torch.zeros(shape, dtype=torch.long),
        labels=torch.full(shape, IGNORE).index_fill(1, torch.tensor([shape[1] - 1]), 0),
        position_ids=torch.arange(shape[1]).repeat(rows, 1),
        segments=torch.tensor([(row, 0, 1, shape[1]) for row in range(rows)], dtype=torch.int32),
    )
    by_shape = {len(part.tokens): part for part in _passes(run, batch)}
    first, last = run.config.depths(run.model.config)
    for part in by_shape.values():
        for k in range(min(first, last), max(first, last) + 1):
            with run.autocast():
                nll, _ = run.model(part.to(run.world.device), k=k)
            nll.backward()
    run.layout.reshard()
    run.layout.zero_grad()


def _passes(run: Run, batch: PackedBatch) -> list[PackedBatch]:
    """This rank's rows of each forward and backward pass."""
    micro_rows = run.config.batch.micro_rows
    return [batch] if micro_rows is None else batch.split(micro_rows)


def _backward(run: Run, step: Step, k: int) -> torch.Tensor:
    """Compute the gradients of this rank's rows and its share of the batch's loss, both zero without targets."""
    share = torch.zeros((), device=run.world.device)
    run.layout.zero_grad()
    for part in _passes(run, step.batch):
        with run.autocast():
            nll, _ = run.model(part.to(run.world.device), k=k)
        loss = nll / max(1, step.targets)
        loss.backward()
        share += loss.detach()
    return share
