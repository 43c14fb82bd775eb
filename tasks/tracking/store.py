"""The MLflow store: reached, checked and made ready once, before anything is recorded."""

import fcntl
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from dcgan.errors import ConfigurationError, TrackingError
from dcgan.files import TEMPORARY_PREFIX, alone_in, atomic_file
from tasks.settings import Settings
from tasks.sources import mask_credentials

EXPERIMENT = "dcgan"
KIND = {"mlflow.experimentKind": "custom_model_development"}  # else the UI opens on traces of language models
MODEL_NAME = "dcgan-generator"
ANSWER_SECONDS = 5.0
SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")  # MLflow's, its folders of files aside


class Store:
    """An MLflow store that answered, and its experiment `dcgan`.

    Args:
        settings: where the store is; without an address it is the SQLite file under the state folder.

    Raises:
        ConfigurationError: the address is not one of a store.
        TrackingError: the store does not answer, or cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.uri = settings.tracking_uri
        self._local_artifacts = settings.artifact_root if self.uri.startswith("sqlite:") else None
        _require_answer(self.uri)
        for name in ("alembic", "mlflow"):  # 60 lines while the database is created
            logging.getLogger(name).setLevel(logging.WARNING)
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(self.uri)
        with translated_errors(self.uri), _one_at_a_time(settings.root):
            _require_database(self.uri)
            self.client = MlflowClient(self.uri, self.uri)
            self.experiment_id = self._experiment()

    def run_url(self, run_id: str) -> str | None:
        """Return where a browser shows the run, None when the store has no server."""
        if not self.uri.startswith("http"):
            return None
        return f"{mask_credentials(self.uri).rstrip('/')}/#/experiments/{self.experiment_id}/runs/{run_id}"

    def _experiment(self) -> str:
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            location = f"{self._local_artifacts.as_uri()}/{EXPERIMENT}" if self._local_artifacts else None
            return str(self.client.create_experiment(EXPERIMENT, artifact_location=location, tags=KIND))
        if self._local_artifacts and experiment.artifact_location.startswith("mlflow-artifacts:"):
            raise TrackingError(
                f"The experiment {EXPERIMENT} in {self.uri} keeps its artifacts behind an MLflow server; "
                "expected MLFLOW_TRACKING_URI to name that server."
            )
        return str(experiment.experiment_id)


@contextmanager
def translated_errors(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into one sentence that names the store."""
    try:
        yield
    except (MlflowException, OSError) as error:
        if reason := _connection_failure(error):
            raise TrackingError(f"The MLflow server {mask_credentials(uri)} does not answer ({reason}).") from error
        first_line = str(error).strip().splitlines()[0].rstrip(".")
        raise TrackingError(f"The MLflow store {mask_credentials(uri)} failed: {first_line}.") from error


def _connection_failure(error: BaseException) -> str | None:
    """Return why a server could not be reached, from under what MLflow's client made of it; None for other errors."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, ConnectionError | TimeoutError | socket.gaierror):
            return cause.strerror or str(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def _require_answer(uri: str) -> None:
    """Raise at once for what is no store or does not answer: MLflow's own client would retry for minutes."""
    if urlsplit(uri).scheme.partition("+")[0] not in SCHEMES:
        raise ConfigurationError(
            f"The setting MLFLOW_TRACKING_URI is {mask_credentials(uri)!r}; expected a server's address, as "
            "http://HOST:PORT, or a database, as sqlite:///FILE."
        )
    if not uri.startswith("http"):
        return
    try:
        httpx.get(f"{uri.rstrip('/')}/health", timeout=ANSWER_SECONDS, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise TrackingError(
            f"The MLflow server {mask_credentials(uri)} does not answer ({reason}); expected a running server there, "
            "or no MLFLOW_TRACKING_URI for a local store."
        ) from None


def _require_database(uri: str) -> None:
    """Make an SQLite database that is not there, whole or not at all.

    MLflow makes it by dozens of migrations that are no transaction: killed among them, no later start could go on.
    """
    path = Path(urlsplit(uri).path.removeprefix("/"))
    if not uri.startswith("sqlite:///") or path.name in ("", ":memory:") or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with alone_in(path.parent):
        for leftover in path.parent.glob(f"{TEMPORARY_PREFIX}*{path.suffix}*"):  # of processes that were killed
            if leftover.is_file():
                leftover.unlink()
        if not path.exists():
            with atomic_file(path) as temporary:
                aside = f"sqlite:///{temporary}"
                MlflowClient(aside, aside).get_experiment_by_name(EXPERIMENT)


@contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """Let one process after another open the store: two that create the same SQLite database at once would clash."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
