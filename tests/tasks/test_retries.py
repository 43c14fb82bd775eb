"""What Prefect repeats when training has ended, and what fails at once."""

import pytest
from prefect.states import Failed

from dcgan.errors import ConfigurationError, LeaseLostError, ModelError, TrackingError, UnavailableError
from tasks.evaluate import evaluate
from tasks.promote import promote_candidate
from tasks.register import register
from tasks.render import render
from tasks.retries import is_transient
from tasks.train import record, train


@pytest.mark.parametrize("task", [record, render, register, evaluate, promote_candidate])
def test_what_records_results_is_repeated(task):
    """Four more tries within about a minute, where the store was away."""
    assert (task.retries, sum(task.retry_delay_seconds), task.retry_condition_fn) == (4, 65, is_transient)
    assert is_transient(task, None, Failed(data=UnavailableError("x")))


def test_training_is_not_repeated():
    """It tolerates a store that is away by itself."""
    assert train.retries == 0


@pytest.mark.parametrize(
    "error", [TrackingError("x"), LeaseLostError("x"), ModelError("x"), ConfigurationError("x"), ValueError("x")]
)
def test_what_stays_wrong_is_not_repeated(error):
    """Neither a store that refuses, nor a run that another process has taken."""
    assert not is_transient(record, None, Failed(data=error))
