"""`make ui`: Prefect's server, MLflow's UI and a worker for each pool on this machine, until Ctrl-C."""

import platform
import sys
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from threading import Event

from rich.console import Console

from dcgan.errors import DcganError
from operations import programs
from operations.access import demand_passwords
from operations.addresses import ServerSettings
from operations.processes import Child, Fleet, StopRequestedError, stop_on_signals
from tasks.settings import CHECKOUT

START_SECONDS = 180.0


class Desk:
    """The servers and workers of this machine, and what their user is told.

    Args:
        settings: where everything is.
        stop: set when it is time to end.
        console: where the user reads.
    """

    def __init__(self, settings: ServerSettings, stop: Event, console: Console) -> None:
        self._settings = settings
        self._console = console
        self._fleet = Fleet(settings.logs, stop)
        self._environment = programs.environment(settings)
        self._workers: dict[str, Child] = {}

    def open(self) -> None:
        """Start what is this machine's to start, and return when all of it answers."""
        demand_passwords(self._settings)
        for address in (self._settings.prefect, self._settings.mlflow):
            if address.is_ours:
                address.demand_free_port()
        self._console.print("Starting Prefect's and MLflow's servers, which takes about half a minute.")
        self._start_servers()
        self._start_workers()
        self._console.print(welcome(self._settings))

    def watch(self) -> None:
        """Wait until a signal comes or a process ends."""
        self._fleet.watch()

    def close(self) -> None:
        """End all that was started."""
        if any(worker.started() for worker in self._workers.values()):
            self._console.print("Stopping; the flow runs are told first.")
        self._fleet.end(self._workers.values())

    def _start_servers(self) -> None:
        settings = self._settings
        environment = programs.server_environment(settings)
        for name, address, command in (
            ("prefect", settings.prefect, programs.prefect_server),
            ("mlflow", settings.mlflow, programs.mlflow_server),
        ):
            if address.is_ours:
                self._fleet.start(name, command(settings), CHECKOUT, environment)
        for what, answers in (
            (f"Prefect's server at {settings.prefect.url}", programs.prefect_answers),
            (f"MLflow's server at {settings.mlflow.url}", programs.mlflow_answers),
        ):
            self._fleet.wait_until(partial(answers, settings), what, START_SECONDS)
        programs.demand_mlflow_entry(settings)

    def _start_workers(self) -> None:
        since = datetime.now(UTC)
        names = {pool: f"{pool}@{platform.node()}" for pool in programs.POOLS}
        for pool, name in names.items():
            command = programs.worker(pool, name)
            self._workers[pool] = self._fleet.start(f"worker-{pool}", command, CHECKOUT, self._environment)
        for pool, name in names.items():
            online = partial(programs.worker_is_online, self._settings, pool, name, since)
            self._fleet.wait_until(online, f"The worker of the pool {pool}", START_SECONDS)


def welcome(settings: ServerSettings) -> str:
    """Return what a user reads when everything runs."""
    prefect = settings.prefect.url.removesuffix("/api")
    return f"""
Prefect  {prefect}  flow runs, deployments, schedules
MLflow   {settings.mlflow.url}  trainings, pictures, models
Workers  {" and ".join(programs.POOLS)}, one flow run at a time each; logs in {settings.logs}

In another terminal, in this folder:
  eval "$(make env)"
  make deploy
  prefect deployment run dcgan/train --watch

Ctrl-C ends all of this."""


def main() -> int:
    """Run until a signal comes. Returns the exit code: 0 after a signal, 1 when something failed."""
    with stop_on_signals() as stop:
        try:
            desk = Desk(ServerSettings(), stop, Console(soft_wrap=True, highlight=False))
            try:
                with suppress(StopRequestedError):
                    desk.open()
                    desk.watch()
            finally:
                desk.close()
        except DcganError as error:
            sys.stderr.write(f"error: {error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
