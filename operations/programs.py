"""The command lines and the environment of the servers and workers, and how each says that it is ready."""

import os
import sys
from datetime import UTC, datetime

import httpx

from operations.addresses import MLFLOW_VARIABLE, PREFECT_VARIABLE, ServerSettings
from tasks.settings import CHECKOUT

ANSWER_SECONDS = 2.0
POOLS = ("gpu", "cpu")


def prefect_server(settings: ServerSettings) -> list[str]:
    """Return the command of Prefect's server; its database lies in PREFECT_HOME."""
    address = settings.prefect
    return _module("prefect", "server", "start", "--host", address.host, "--port", str(address.port))


def mlflow_server(settings: ServerSettings) -> list[str]:
    """Return the command of MLflow's server, over the same database and artifacts as trainings without a server.

    New experiments keep their artifacts at plain paths, not behind the server, so that both find both's.
    """
    address = settings.mlflow
    return [
        *_module("mlflow", "server", "--host", address.host, "--port", str(address.port), "--workers", "1"),
        *("--backend-store-uri", settings.store, "--default-artifact-root", settings.artifact_root.as_uri()),
    ]


def worker(pool: str, name: str) -> list[str]:
    """Return the command of a worker that runs one flow run at a time; it makes its pool if there is none."""
    return _module("prefect", "worker", "start", "--pool", pool, "--type", "process", "--name", name, "--limit", "1")


def environment(settings: ServerSettings) -> dict[str, str]:
    """Return the environment of servers and workers; flow runs inherit their worker's."""
    defaults = {
        "DCGAN_HOME": str(CHECKOUT),  # where prefect.yaml's pull step goes
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # automations.yaml counts on it
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONUNBUFFERED": "1",
    }
    settled = {
        "DCGAN_STATE": str(settings.root),
        PREFECT_VARIABLE: settings.prefect.url,
        MLFLOW_VARIABLE: settings.mlflow.url,
    }
    return {**defaults, **os.environ, **settled}


def prefect_answers(settings: ServerSettings) -> bool:
    """Whether Prefect's API is there."""
    return _answers(f"{settings.prefect.url}/health")


def mlflow_answers(settings: ServerSettings) -> bool:
    """Whether MLflow's server is there."""
    return _answers(f"{settings.mlflow.url}/health")


def worker_is_online(settings: ServerSettings, pool: str, name: str, since: datetime) -> bool:
    """Whether the worker has told Prefect's API after `since` that it lives."""
    try:
        url = f"{settings.prefect.url}/work_pools/{pool}/workers/filter"
        response = httpx.post(url, json={}, timeout=ANSWER_SECONDS)
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
