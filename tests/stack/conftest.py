"""Fixtures of the team stack, which all of these tests use and break one after the other."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.service_stack import ServiceStack, read_until_ready, start_stack, with_passwords
from tests.stack.machines import Machines


@pytest.fixture(scope="session")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceStack]:
    """Yield a running `make stack` with the deployments; its own workers are suspended, the tests start theirs."""
    state = tmp_path_factory.mktemp("team") / "state"
    stack = start_stack(state, program="operations.stack")
    try:
        read_until_ready(stack)
        stack = with_passwords(stack)
        stack.deploy()
        workers = [each for each in stack.processes() if "operations.worker" in each.cmdline()]
        for worker in workers:
            worker.suspend()
        yield stack
        for worker in workers:
            with suppress(psutil.NoSuchProcess):
                worker.resume()
    finally:
        stack.process.terminate()
        stack.process.communicate(timeout=180)


@pytest.fixture
def logins(team: ServiceStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give MLflow's client in this process the password."""
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, team.environment[name])


@pytest.fixture
def machines(team: ServiceStack, tmp_path: Path) -> Iterator[Machines]:
    """Yield what starts workers that share nothing but the servers."""
    machines = Machines(team, tmp_path)
    try:
        yield machines
    finally:
        machines.stop()
