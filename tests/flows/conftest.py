"""A real Prefect server, started once for all tests of flows, and what a command refuses, says and leaves alone."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness

from dcgan.files import LOCK_NAME, sha256_of_file
from tasks.context import open_context
from tasks.settings import Settings

Unchanged = Callable[..., AbstractContextManager[None]]
ErrorLine = Callable[[], str]


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """Run a Prefect server with a database of its own until the tests end."""
    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture
def unchanged(tmp_path: Path) -> Unchanged:
    """Return a context manager that fails if its body changes a file or a record in MLflow.

    Looked at are the test's own folder and the state folder. `allowed` is a folder below the test's folder where new
    files may appear: complete ones, which the next run uses.
    """

    @contextmanager
    def check(allowed: str | None = None) -> Iterator[None]:
        files, records = _files(tmp_path), _records()
        yield
        found = _files(tmp_path)
        new = {path for path in found.keys() - files.keys() if allowed and path.is_relative_to(tmp_path / allowed)}
        assert {path: digest for path, digest in found.items() if path not in new} == files
        if records is not None:
            assert _records() == records

    return check


@pytest.fixture
def error_line(capsys: pytest.CaptureFixture[str]) -> ErrorLine:
    """Return a function that reads a command's error: the last line on standard error, without its prefix."""

    def read() -> str:
        written = capsys.readouterr().err
        assert "Traceback" not in written
        line = written.strip().splitlines()[-1]
        assert line.startswith("error: ")
        return line.removeprefix("error: ")

    return read


def _files(folder: Path) -> dict[Path, str]:
    """Return the digest of every file but Prefect's, MLflow's database and locks."""
    paths = [path for root in {folder, Settings.read().root} for path in root.rglob("*") if path.is_file()]
    return {
        path: sha256_of_file(path)
        for path in paths
        if "prefect" not in path.parts and path.name not in (LOCK_NAME, "mlflow.db") and path.suffix != ".lock"
    }


def _records() -> object:
    """Return what MLflow has of runs and of the model, None where the store is not a database that exists."""
    settings = Settings.read()
    if not settings.tracking_uri.startswith("sqlite:") or not (settings.root / "mlflow.db").exists():
        return None
    store = open_context(settings).store
    runs = {run.info.run_id: run.to_dictionary() for run in store.client.search_runs([store.experiment_id])}
    return runs, [dict(model.aliases) for model in store.client.search_registered_models()]
