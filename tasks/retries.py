"""Repeats what may fail only for a moment, as where a server is away."""

import logging
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from dcgan.errors import NetworkError, UnavailableError

logger = logging.getLogger("dcgan.retries")

DELAYS_SECONDS = [5.0, 10.0, 20.0, 30.0]

P = ParamSpec("P")
R = TypeVar("R")


def is_transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Return whether a failed task may succeed later: a missing file or wrong content will not."""
    return isinstance(state.result(raise_on_failure=False), NetworkError | UnavailableError)


def recording_task(function: Callable[P, R]) -> Task[P, R]:
    """Make a task of what records results when training has ended.

    While it trains, a training run does not wait for a store that is away. Afterwards there is nothing else to do, so
    Prefect repeats the task for a minute or two before the flow run fails. To repeat it is safe: files are replaced,
    and epochs, metrics and versions are there once.
    """
    decorate = task(
        cache_policy=NO_CACHE,
        retries=len(DELAYS_SECONDS),
        retry_delay_seconds=DELAYS_SECONDS,
        retry_condition_fn=is_transient,
    )
    return decorate(function)


def repeated(action: Callable[[], R]) -> R:
    """Return what an action returns, as patient as a recording task where there is no task; it must be safe to repeat.

    Raises:
        UnavailableError: MLflow was away each time.
    """
    for delay in DELAYS_SECONDS:
        try:
            return action()
        except UnavailableError as error:
            logger.warning("%s The next attempt is in %.0f seconds.", error, delay)
            time.sleep(delay)
    return action()
