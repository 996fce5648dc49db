"""Claims about learning rate and credit-assignment depth."""

import pytest

from trainer.config import ScheduleConfig
from trainer.schedule import gradient_depth, learning_rate


def test_learning_rate_warms_up_linearly_and_stays() -> None:
    schedule = ScheduleConfig(warmup_steps=4)
    rates = [learning_rate(step, 100, peak=2.0, schedule=schedule) for step in range(6)]
    assert rates == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


def test_cosine_falls_from_the_peak_to_the_floor() -> None:
    schedule = ScheduleConfig(warmup_steps=10, decay="cosine", min_lr_ratio=0.2)
    rates = [learning_rate(step, 110, peak=1.0, schedule=schedule) for step in range(10, 120)]
    assert rates[0] == 1.0
    assert rates[50] == pytest.approx(0.6)
    assert rates[-1] == pytest.approx(0.2)
    assert rates == sorted(rates, reverse=True)


def test_depth_grows_from_2_to_5_over_the_first_fifth_of_the_run() -> None:
    depths = [gradient_depth(step, 300, depths=(2, 5), ramp=0.2) for step in range(300)]
    assert [depths.index(k) for k in (2, 3, 4, 5)] == [0, 20, 40, 60]
    assert depths == sorted(depths)
