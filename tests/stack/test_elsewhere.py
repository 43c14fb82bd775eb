"""A client on another machine: with the addresses of Prefect's and MLflow's servers, and with nothing else."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

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


def test_mlflows_own_client_needs_no_bucket(team: ServiceStack, machines: Machines, tmp_path: Path) -> None:
    """With none of this project's settings it writes and reads an artifact, where it reaches no other server."""
    if not machines.isolated:
        pytest.skip("this user may not make network namespaces")
    inside = machines.network("client")
    bucket = process_of(team, "mlflow").environ()["MLFLOW_S3_ENDPOINT_URL"]
    redis = process_of(team, "services").environ()["PREFECT_REDIS_MESSAGING_URL"]
    assert [url for url in (bucket, redis) if machines.reaches("client", urlsplit(url).port or 0)] == []

    names = ("PATH", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    login = {name: team.environment.get(name, os.defpath) for name in names}
    # as a large file would be, in parts
    own = {"HOME": str(tmp_path), "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [*inside, sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=tmp_path, env=login | own, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["there and back"], done.stderr
