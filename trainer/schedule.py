"""Learning rate and credit-assignment depth K as functions of the step."""

import math

from trainer.config import ScheduleConfig


def learning_rate(step: int, total: int, *, peak: float, schedule: ScheduleConfig) -> float:
    """Learning rate of a step: linear warm-up, then constant or a cosine down to `floor · peak`.

    Parameters
    ----------
    step
        From 0.
    total
        Steps of the run.
    peak
        The rate after the warm-up.
    """
    if step < schedule.warmup_steps:
        return peak * (step + 1) / schedule.warmup_steps
    if schedule.decay == "constant":
        return peak
    progress = min(1.0, (step - schedule.warmup_steps) / max(1, total - schedule.warmup_steps))
    return peak * (schedule.floor + (1 - schedule.floor) * 0.5 * (1 + math.cos(math.pi * progress)))


def gradient_depth(step: int, total: int, schedule: ScheduleConfig) -> int:
    """K of a step: k_start + ⌊(k_end - k_start)·min(1, step / (k_ramp·total))⌋ (HRM-Text, credit assignment)."""
    ramp = schedule.k_ramp * total
    share = 1.0 if ramp <= 0 else min(1.0, step / ramp)
    return schedule.k_start + math.floor((schedule.k_end - schedule.k_start) * share)
