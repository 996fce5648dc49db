"""Learning rate and depth K of backpropagation as functions of the step."""

import math

from trainer.config import ScheduleConfig


def learning_rate(step: int, total: int, *, peak: float, schedule: ScheduleConfig) -> float:
    """Learning rate of a step: linear warmup, then constant or cosine decay to `min_lr_ratio · peak`.

    Parameters
    ----------
    step
        From 0.
    total
        Steps of the run.
    peak
        Learning rate after the warmup.
    schedule
        Warmup and decay.
    """
    if step < schedule.warmup_steps:
        return peak * (step + 1) / schedule.warmup_steps
    if schedule.decay == "constant":
        return peak
    progress = min(1.0, (step - schedule.warmup_steps) / max(1, total - schedule.warmup_steps))
    floor = schedule.min_lr_ratio
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))


def gradient_depth(step: int, total: int, *, depths: tuple[int, int], ramp: float) -> int:
    """K of a step: start + ⌊(end - start)·min(1, step / (ramp·total))⌋ (HRM-Text, credit assignment).

    Parameters
    ----------
    step, total
        As for `learning_rate`.
    depths
        K at the start and at the end of the ramp.
    ramp
        Share of the steps over which K grows.
    """
    start, end = depths
    share = 1.0 if ramp <= 0 else min(1.0, step / (ramp * total))
    return start + math.floor((end - start) * share)
