"""The MLflow store: reached, checked and made ready once, before anything is recorded."""

import logging
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx
import mlflow
from google.protobuf.json_format import ParseError
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from dcgan.errors import ConfigurationError, TrackingError, UnavailableError, mask_credentials
from dcgan.files import exclusive_lock, first_line
from tracking.database_template import copy_template, database_lock
from tracking.tags import EXPERIMENT, MODEL_NAME, REPORT_PAGE, TRAINING_VIEW

KIND = {"mlflow.experimentKind": "custom_model_development"}  # else the UI opens on traces of language models
ANSWER_SECONDS = 5
SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")  # MLflow's, except its folders of files

for _name in ("alembic", "mlflow"):  # 60 lines while a database is created
    logging.getLogger(_name).setLevel(logging.WARNING)
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # tracebacks of what our sentences say


class Store:
    """An MLflow store that answered, with its experiment `dcgan`.

    Args:
        uri: Address of the store: a server's, or a database's.
        local_artifacts: Folder of the artifacts where the store is an SQLite file.
        lock: Lock file that serializes the opening on this machine: two processes that create the same SQLite
            database at once would clash.

    Raises:
        ConfigurationError: The address is not that of a store.
        TrackingError: The store does not answer, or cannot be used.
    """

    def __init__(self, uri: str, local_artifacts: Path, lock: Path) -> None:
        self.uri = uri
        self._local_artifacts = local_artifacts if _is_sqlite(uri) else None
        _require_answer(uri)
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        with translated_errors(uri), exclusive_lock(lock):
            _create_database(uri)
            self.client = MlflowClient(uri, uri)
            self.experiment_id = self._experiment()

    def run_url(self, run_id: str) -> str | None:
        """Return the address of the run's page, None when the store has no server."""
        return f"{self._run_page(run_id)}{TRAINING_VIEW}" if self.uri.startswith("http") else None

    def artifact_url(self, run_id: str, path: str) -> str | None:
        """Return the address of the page of a run's artifact, None when the store has no server."""
        if not self.uri.startswith("http"):
            return None
        return f"{self._run_page(run_id)}/artifactPath/{path}{TRAINING_VIEW}"

    def report_url(self, run_id: str) -> str | None:
        """Return the address of the run's report, None when the store has no server."""
        return self.artifact_url(run_id, REPORT_PAGE)

    def version_url(self, version: int) -> str | None:
        """Return the address of the page of a version of the registered model, None when the store has no server."""
        if not self.uri.startswith("http"):
            return None
        return f"{self._pages()}/models/{MODEL_NAME}/versions/{version}{TRAINING_VIEW}"

    def _run_page(self, run_id: str) -> str:
        return f"{self._pages()}/experiments/{self.experiment_id}/runs/{run_id}"

    def _pages(self) -> str:
        return f"{mask_credentials(self.uri).rstrip('/')}/#"

    def _experiment(self) -> str:
        other = f"The server {mask_credentials(self.uri)} does not answer as MLflow does; expected an MLflow server."
        try:
            experiment = self.client.get_experiment_by_name(EXPERIMENT)
        except RestException as error:
            if error.json == {"detail": "Not Found"}:  # that of Prefect, and of whatever else is made with FastAPI
                raise TrackingError(other) from None
            raise
        if experiment is None:
            self._create_experiment()
            experiment = self.client.get_experiment_by_name(EXPERIMENT)
        if not experiment.experiment_id:
            raise TrackingError(other)
        if self.uri.startswith("http") and not _is_here(experiment.artifact_location):
            raise TrackingError(
                f"The server {mask_credentials(self.uri)} keeps its artifacts in {experiment.artifact_location}, a "
                "folder that this machine does not have; expected them behind the server: run 'dcgan serve-artifacts' "
                "on its machine."
            )
        if self._local_artifacts and experiment.artifact_location.startswith("mlflow-artifacts:"):
            raise TrackingError(
                f"The experiment {EXPERIMENT} in {self.uri} keeps its artifacts behind an MLflow server; "
                "expected MLFLOW_TRACKING_URI to name that server."
            )
        return str(experiment.experiment_id)

    def _create_experiment(self) -> None:
        location = f"{self._local_artifacts.as_uri()}/{EXPERIMENT}" if self._local_artifacts else None
        try:
            self.client.create_experiment(EXPERIMENT, artifact_location=location, tags=KIND)
        except MlflowException as error:  # another process was faster, or this one, whose reply was lost
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


@contextmanager
def translated_errors(uri: str) -> Iterator[None]:
    """Turn MLflow's exceptions into one sentence that names the store.

    Raises:
        UnavailableError: A server does not answer, or fails.
        TrackingError: Anything else failed.
    """
    try:
        yield
    except ImportError as error:  # drivers of databases and object stores are not part of this project
        raise TrackingError(
            f"The MLflow store {mask_credentials(uri)} needs a Python package that is not installed: "
            f"{mask_credentials(first_line(error))}."
        ) from error
    except ParseError as error:  # JSON of another shape than MLflow's
        raise TrackingError(
            f"The MLflow server {mask_credentials(uri)} gives an answer that is not from MLflow: "
            f"{mask_credentials(first_line(error))}."
        ) from error
    except (MlflowException, OSError) as error:
        if reason := _connection_failure(error):
            raise UnavailableError(f"The MLflow server {mask_credentials(uri)} does not answer ({reason}).") from error
        kind = UnavailableError if not _is_sqlite(uri) and _is_servers_fault(error) else TrackingError
        raise kind(f"The MLflow store {mask_credentials(uri)} failed: {mask_credentials(_reason(error))}.") from error


@contextmanager
def tolerated_absence() -> Iterator[None]:
    """Let the body delete what is gone already: a request whose reply was lost is repeated."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def _scheme(uri: str) -> str:
    """Return the scheme of an address, without the driver that a database's may name."""
    return uri.partition(":")[0].partition("+")[0]


def _is_sqlite(uri: str) -> bool:
    return _scheme(uri) == "sqlite"


def _is_here(location: str) -> bool:
    """Return whether clients on this machine can use artifacts: they are not in a folder, or the folder is here."""
    parts = urlsplit(location)
    return parts.scheme != "file" or Path(unquote(parts.path)).parent.is_dir()


def _reason(error: BaseException) -> str:
    """Return why the store failed: what the database's driver says, where SQLAlchemy has put words of its own first."""
    reason = first_line(error)
    if reason.startswith("("):  # SQLAlchemy's: (raised as a result of …), or (sqlite3.OperationalError) …
        drivers = (first_line(cause.orig) for cause in _causes(error) if isinstance(cause, DBAPIError) and cause.orig)
        return next(drivers, reason)
    return reason


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that led to it."""
    cause: BaseException | None = error
    while cause:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _connection_failure(error: BaseException) -> str | None:
    """Return why a server could not be reached, from the causes of MLflow's exception; None for other errors."""
    for cause in _causes(error):
        if isinstance(cause, ConnectionError | TimeoutError | socket.gaierror):
            return cause.strerror or str(cause)
    return None


def _is_servers_fault(error: BaseException) -> bool:
    """Return whether a server failed: MLflow's, as where its bucket does not answer it, or that of a database."""
    if not isinstance(error, MlflowException):
        return False
    status = error.get_http_status_code()
    return status >= httpx.codes.INTERNAL_SERVER_ERROR and status != httpx.codes.NOT_IMPLEMENTED


def _require_answer(uri: str) -> None:
    """Raise at once for an address that is not a store's or does not answer: MLflow would retry for minutes."""
    if _scheme(uri) not in SCHEMES:
        raise ConfigurationError(
            f"The setting MLFLOW_TRACKING_URI is {mask_credentials(uri)!r}; expected a server's address, as "
            "http://HOST:PORT, or a database, as sqlite:///FILE."
        )
    if not uri.startswith("http"):
        _require_database(uri)
        return
    try:
        # MLflow's own request, which knows what certificates the user trusts
        http_request(get_default_host_creds(uri), "/health", "GET", timeout=ANSWER_SECONDS, max_retries=0)
    except MlflowException as error:
        reason = _connection_failure(error) or first_line(error)
        raise UnavailableError(
            f"The MLflow server {mask_credentials(uri)} does not answer ({mask_credentials(reason)}); "
            "expected a running server there, or no MLFLOW_TRACKING_URI for a local store."
        ) from None


def _require_database(uri: str) -> None:
    """Raise at once where a database cannot be used: MLflow would retry for two minutes, or wait for ever."""
    if _is_sqlite(uri):
        return
    with translated_errors(uri):
        try:
            address = make_url(uri)
            timeout = "timeout" if address.get_backend_name() == "mssql" else "connect_timeout"
            create_engine(address, poolclass=NullPool, connect_args={timeout: ANSWER_SECONDS}).connect().close()
        except (SQLAlchemyError, ValueError) as error:
            raise UnavailableError(
                f"The database {mask_credentials(uri)} cannot be used "
                f"({mask_credentials(first_line(error.__cause__ or error))}); "
                "expected a running server that accepts the user, or no MLFLOW_TRACKING_URI for a local store."
            ) from None


def _create_database(uri: str) -> None:
    """Create an SQLite database that does not exist, completely or not at all.

    MLflow migrates a new one dozens of times without a transaction: killed among them, no later start would succeed.
    """
    path = Path(make_url(uri).database or "") if _is_sqlite(uri) else Path()
    if path.name in ("", ":memory:") or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(database_lock(path)):
        made = path.with_name(f".{path.name}.new") / path.name  # in a folder of whoever holds the lock
        shutil.rmtree(made.parent, ignore_errors=True)
        if not path.exists():
            made.parent.mkdir()
            copy_template("mlflow", made)
            if not made.exists():
                create_tables(made)
            made.replace(path)
            made.parent.rmdir()


def create_tables(database: Path) -> None:
    """Let MLflow make a new SQLite database, without its experiment Default, which names a folder of this process."""
    uri = f"sqlite:///{database}"
    MlflowClient(uri, uri).search_experiments()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM experiments")
