"""`make ui`: run Prefect's server, MLflow's server and a worker for each pool, until Ctrl-C."""

import platform
import shlex
import sys
from argparse import ArgumentParser
from datetime import UTC, datetime
from functools import partial

from dcgan.errors import mask_credentials
from operations.command import print_line, run_operation
from operations.servers import (
    POOLS,
    ServerSettings,
    mlflow_command,
    prefect_command,
    require_mlflow_login,
    require_passwords,
    require_reachable_artifacts,
    server_environment,
    worker_command,
    worker_environment,
    worker_is_online,
)
from operations.supervisor import Role, Supervisor, supervised
from tracking.tags import TRAINING_VIEW

START_SECONDS = 180.0
PLACES = (
    "state",
    "prefect_api",
    "mlflow_uri",
    "listen_at",
    "serve_artifacts",
)  # settings that another terminal does not know by itself


def start_servers(settings: ServerSettings, supervisor: Supervisor) -> None:
    """Start the servers that belong to this machine, and return when both servers answer."""
    environment = server_environment(settings)
    if settings.prefect.is_local:
        supervisor.start("prefect", prefect_command(settings), environment)
    if settings.mlflow.is_local:
        settings.artifact_root.mkdir(parents=True, exist_ok=True)
        supervisor.start("mlflow", mlflow_command(settings), environment)
    for name, address in (("Prefect", settings.prefect), ("MLflow", settings.mlflow)):
        supervisor.wait_until(address.answers, f"{name}'s server at {address.url}", START_SECONDS)
    require_mlflow_login(settings)


def start_workers(settings: ServerSettings, supervisor: Supervisor) -> None:
    """Start a worker for each pool, and return when Prefect's server knows that all of them live."""
    since = datetime.now(UTC)
    environment = worker_environment(settings)
    names = {pool: f"{pool}@{platform.node()}" for pool in POOLS}
    for pool, name in names.items():
        supervisor.start(f"worker-{pool}", worker_command(pool, name), environment, Role.WORKER)
    for pool, name in names.items():
        online = partial(worker_is_online, settings, pool, name, since)
        supervisor.wait_until(online, f"The worker of the pool {pool}", START_SECONDS)


def welcome(settings: ServerSettings) -> str:
    """Return the text that a user reads when everything runs."""
    given = [
        f"{ServerSettings.model_fields[name].validation_alias}={shlex.quote(mask_credentials(str(value)))} "
        for name, value in settings
        if name in settings.model_fields_set and name in PLACES
    ]
    return f"""
Prefect  {settings.prefect.url.removesuffix("/api")}  flow runs, deployments, schedules
MLflow   {settings.mlflow.url}/#/experiments{TRAINING_VIEW}  training runs, samples, models
Workers  {" and ".join(POOLS)}, one flow run at a time each; logs in {settings.logs}

In another terminal, in this folder:
  eval "$({"".join(given)}make env)"
  dcgan deploy
  prefect deployment run dcgan/train --watch

Ctrl-C stops everything."""


def main(arguments: list[str]) -> int:
    """Run the servers and workers until a signal comes; return the exit code."""
    ArgumentParser(prog="dcgan ui", description=__doc__).parse_args(arguments)

    def body() -> None:
        settings = ServerSettings.read()
        with supervised(settings.logs) as supervisor:
            require_passwords(settings)
            require_reachable_artifacts(settings)
            for address in (settings.prefect, settings.mlflow):
                if address.is_local:
                    address.require_free_port()
            print_line("Starting Prefect's and MLflow's servers, which takes about half a minute.")
            start_servers(settings, supervisor)
            start_workers(settings, supervisor)
            print_line(welcome(settings))
            supervisor.watch()

    return run_operation(body)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
