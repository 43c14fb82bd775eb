"""A client on another machine: with the addresses of Prefect's and MLflow's servers, and with nothing else."""

import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.service_stack import ServiceStack
from tests.stack.machines import Machines
from tests.stack.processes import process_of

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

PROGRAM = """
import mlflow
with mlflow.start_run() as run:
    mlflow.log_text("there and back", "note.txt")
print(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/note.txt"))
"""


def test_the_proxy_does_not_tell_of_the_bucket(team: ServiceStack) -> None:
    """MLflow's pages learn what its server can, its clients do not."""
    login = (team.environment["MLFLOW_TRACKING_USERNAME"], team.environment["MLFLOW_TRACKING_PASSWORD"])
    for path, status in (("ajax-api", 200), ("api", 404)):
        assert httpx.get(f"{team.mlflow}/{path}/3.0/mlflow/server-info", auth=login).status_code == status


def test_mlflows_own_client_needs_no_bucket(team: ServiceStack, machines: Machines, tmp_path: Path) -> None:
    """With none of this project's settings it writes and reads an artifact, where it reaches no other server."""
    if not machines.isolated:
        pytest.skip("this user may not make network namespaces")
    inside = machines.network("client")
    bucket = process_of(team, "mlflow").environ()["MLFLOW_S3_ENDPOINT_URL"]
    redis = process_of(team, "services").environ()["PREFECT_REDIS_MESSAGING_URL"]
    for url in (bucket, redis):
        address = urlsplit(url)
        socket.create_connection((address.hostname, address.port), timeout=10).close()
        assert not machines.reaches("client", address.port)

    names = ("PATH", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    own = {
        "HOME": str(tmp_path),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": "1",  # as a large file would be, in parts
    }
    done = subprocess.run(
        [*inside, sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={name: team.environment[name] for name in names} | own,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["there and back"], done.stderr
