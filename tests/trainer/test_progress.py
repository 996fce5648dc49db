"""Commands that answer many questions say how far they are, on standard error."""

import re

import pytest

from trainer.progress import Progress, duration


def test_lines_have_what_is_done_and_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("gsm8k", 1319, "questions", interval=0.0)
    for done in (0, 640, 1319):
        progress(done)
    first, second, last = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"gsm8k +0/1,319 questions  0\.0 s", first)
    assert re.fullmatch(r"gsm8k +640/1,319 questions  \d\.\d s  left 0:00:\d\d", second)
    assert re.fullmatch(r"gsm8k +1,319/1,319 questions  \d\.\d s", last)


def test_there_is_a_line_at_once_then_none_before_the_interval(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("gsm8k", 4, "questions")
    for done in (1, 2, 3):
        progress(done)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_durations_are_hours_minutes_and_seconds() -> None:
    assert [duration(3723.4), duration(0), duration(float("nan"))] == ["1:02:03", "0:00:00", "?"]
