"""The command lines and the environment of the servers and workers, and how each says that it is ready."""

import os
import sys
from datetime import UTC, datetime

import httpx

from dcgan.errors import ConfigurationError
from operations import access
from operations.addresses import (
    MLFLOW_PASSWORD_VARIABLE,
    MLFLOW_USER_VARIABLE,
    MLFLOW_VARIABLE,
    PREFECT_VARIABLE,
    ServerSettings,
)
from tasks.settings import CHECKOUT

ANSWER_SECONDS = 2.0
ENTRY_SECONDS = 30.0  # the first request that needs MLflow's database takes longer
POOLS = ("gpu", "cpu")


def prefect_server(settings: ServerSettings) -> list[str]:
    """Return the command of Prefect's server; its database lies in PREFECT_HOME."""
    address = settings.prefect
    return _module("prefect", "server", "start", "--host", address.bind_host, "--port", str(address.port))


def mlflow_server(settings: ServerSettings) -> list[str]:
    """Return the command of MLflow's server, over the same artifacts as trainings without a server.

    New experiments keep their artifacts at plain paths, not behind the server, so that both find both's.
    """
    address = settings.mlflow
    return [
        *_module("mlflow", "server", "--host", address.bind_host, "--port", str(address.port), "--workers", "1"),
        *("--default-artifact-root", settings.artifact_root.as_uri()),
        *(("--app-name", "basic-auth") if access.mlflow_auth(settings) else ()),
    ]


def worker(pool: str, name: str) -> list[str]:
    """Return the command of a worker that runs one flow run at a time; it makes its pool if there is none."""
    return _module("operations.worker", "--pool", pool, "--name", name)


def environment(settings: ServerSettings) -> dict[str, str]:
    """Return the environment of workers, which flow runs inherit."""
    defaults = {
        "DCGAN_HOME": str(CHECKOUT),  # where prefect.yaml's pull step goes
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # automations.yaml counts on it
        "PREFECT_SERVER_UI_V2_ENABLED": "false",  # whose pages have the browser ask Amplitude, analytics on or off
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONUNBUFFERED": "1",
    }
    settled = {
        "DCGAN_STATE": str(settings.root),
        PREFECT_VARIABLE: settings.prefect.url,
        MLFLOW_VARIABLE: settings.mlflow.url,
    }
    return {**defaults, **os.environ, **settled}


def server_environment(settings: ServerSettings) -> dict[str, str]:
    """Return the environment of servers: the workers', MLflow's database, and who may use them."""
    database = {"MLFLOW_BACKEND_STORE_URI": settings.store}  # its address may hold a password
    return access.with_access({**environment(settings), **database}, settings)


def prefect_answers(settings: ServerSettings) -> bool:
    """Whether Prefect's API is there."""
    return _answers(f"{settings.prefect.url}/health")


def mlflow_answers(settings: ServerSettings) -> bool:
    """Whether MLflow's server is there."""
    return _answers(f"{settings.mlflow.url}/health")


def demand_mlflow_entry(settings: ServerSettings) -> None:
    """Do nothing if MLflow's server, where it asks for a password, takes the one of the settings.

    Raises:
        ConfigurationError: it keeps another.
    """
    address = settings.mlflow
    if auth := access.mlflow_auth(settings):
        url = f"{address.url}/api/2.0/mlflow/experiments/search?max_results=1"
        if httpx.get(url, auth=auth, timeout=ENTRY_SECONDS).status_code == httpx.codes.UNAUTHORIZED:
            raise ConfigurationError(
                f"MLflow's server at {address.url} refuses {MLFLOW_USER_VARIABLE} and {MLFLOW_PASSWORD_VARIABLE}; "
                f"expected those of its first start, which it keeps in {access.users_folder(settings)}."
            )


def worker_is_online(settings: ServerSettings, pool: str, name: str, since: datetime) -> bool:
    """Whether the worker has told Prefect's API after `since` that it lives."""
    try:
        url = f"{settings.prefect.url}/work_pools/{pool}/workers/filter"
        response = httpx.post(url, json={}, headers=access.prefect_headers(settings), timeout=ANSWER_SECONDS)
    except httpx.HTTPError:
        return False
    if not response.is_success:
        return False
    heartbeats = [worker["last_heartbeat_time"] for worker in response.json() if worker["name"] == name]
    return any(datetime.fromisoformat(beat).astimezone(UTC) > since for beat in heartbeats if beat)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=ANSWER_SECONDS, follow_redirects=True).is_success
    except httpx.HTTPError:
        return False


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, *arguments]
