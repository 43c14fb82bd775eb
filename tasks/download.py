"""The task that brings the four IDX files of a data set under the state folder, whatever their source."""

from typing import Any

from prefect import Task, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from dcgan.idx_set import IdxSet
from tasks.downloads import obtain
from tasks.settings import read_settings
from tasks.web import NetworkError


def worth_retrying(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Return whether a failed download may work later: a missing file or wrong contents will not."""
    return isinstance(state.result(raise_on_failure=False), NetworkError)


@task(
    name="download",
    retries=3,
    retry_delay_seconds=exponential_backoff(2),
    retry_jitter_factor=0.5,
    retry_condition_fn=worth_retrying,
)
def download(source: str = "auto") -> IdxSet:
    """Return a data set's files, checked, from an earlier download where there is one.

    Args:
        source: auto (the mirrors of MNIST, then the bundled copy), bundled, a directory or a URL that holds the files.

    Raises:
        ConfigurationError: `source` cannot be a source.
        NetworkError: the source does not answer as it should; a Prefect run tries again.
        DataError: the source does not hold what it should.
    """
    return obtain(source, read_settings().downloads)
