"""The retry policy of everything that talks to a store."""

import random
from collections.abc import Callable
from typing import TypeVar

import tenacity

from corpus.storage import MismatchError

T = TypeVar("T")

ATTEMPTS = 7
"""Attempts of an operation that has no deadline."""
INTERACTIVE_ATTEMPTS = 2
"""Attempts where a user waits for the answer; most clients of stores retry as well."""
FINAL_AFTER = 4
"""A store that has given this many answers (`ANSWERS`) to one operation is believed."""
PAUSE = 0.5
"""Seconds before the second attempt, doubled before each further one."""
LONGEST_PAUSE = 15.0
ANSWERS: tuple[type[OSError], ...] = (FileNotFoundError, PermissionError, MismatchError)
"""Errors that describe the file and not a failure of its store."""


def retry(
    action: Callable[[], T],
    *,
    attempts: int | None = ATTEMPTS,
    timeout: float | None = None,
    final_after: int = 1,
    answers: tuple[type[OSError], ...] = ANSWERS,
    on_failure: Callable[[OSError], None] = lambda error: None,
) -> T:
    """Repeat an action until it succeeds; raise its last error when it does not.

    The pauses grow, and a random part of each is left out, so that the ranks of a run do not return all at once.

    Parameters
    ----------
    action
        An `OSError` that it raises is a failure, after which it is repeated; any other exception is raised at once.
    attempts, timeout
        Number of attempts and seconds after which the last failure is raised; None: no such limit.
    final_after, answers
        An error of these classes is raised when there have been `final_after` of them.
    on_failure
        Called with each failure that is followed by another attempt.
    """
    given = 0

    def report(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, OSError):
            on_failure(error)

    def is_worth_another(error: BaseException) -> bool:
        nonlocal given
        given += isinstance(error, answers)
        return isinstance(error, OSError) and given < final_after

    stops: list[tenacity.stop.stop_base] = [tenacity.stop_never]
    if attempts is not None:
        stops.append(tenacity.stop_after_attempt(attempts))
    if timeout is not None:
        stops.append(tenacity.stop_before_delay(timeout))
    policy = tenacity.Retrying(
        stop=tenacity.stop_any(*stops),
        wait=_pause,
        retry=tenacity.retry_if_exception(is_worth_another),
        before_sleep=report,
        reraise=True,
    )
    return policy(action)


def _pause(state: tenacity.RetryCallState) -> float:
    longest = min(PAUSE * 2 ** min(state.attempt_number - 1, 60), LONGEST_PAUSE)
    return longest * random.uniform(0.5, 1.0)
