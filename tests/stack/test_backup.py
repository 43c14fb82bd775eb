"""The backup of docs/team-stack.md: a database and the bucket, saved while the servers run, and restored elsewhere."""

import subprocess
import sys
from pathlib import Path

import psycopg2
import pytest
from mlflow import MlflowClient
from sqlalchemy.engine import make_url

from tests.service_stack import CHECKOUT, ServiceStack
from tests.stack.processes import process_of

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]


@pytest.mark.usefixtures("logins")
def test_what_was_saved_can_be_restored(team: ServiceStack, tmp_path: Path) -> None:
    """A run and its artifact are in another database and in another bucket afterwards, byte for byte."""
    client = MlflowClient(team.mlflow, team.mlflow)
    run = client.create_run(client.create_experiment("backup"))
    client.log_metric(run.info.run_id, "answer", 42)
    client.log_text(run.info.run_id, "kept", "note.txt")

    environment = process_of(team, "mlflow").environ()
    address = make_url(environment["MLFLOW_BACKEND_STORE_URI"])
    connection = [f"--host={address.host}", f"--port={address.port}", f"--username={address.username}"]
    login = {"PATH": environment["PATH"], "PGPASSWORD": address.password}
    with (tmp_path / "mlflow.dump").open("wb") as dump:
        subprocess.run(["pg_dump", *connection, "--format=custom", "mlflow"], env=login, stdout=dump, check=True)
    saved, again = tmp_path / "saved", tmp_path / "again"
    copy_bucket(environment, "save", saved)
    assert copy_bucket(environment, "save", saved) == "0 files were copied."

    session = psycopg2.connect(address.set(database="postgres").render_as_string(hide_password=False))
    session.autocommit = True
    with session.cursor() as cursor:
        cursor.execute("CREATE DATABASE restored")
    session.close()
    with (tmp_path / "mlflow.dump").open("rb") as dump:
        options = ["--dbname=restored", "--clean", "--if-exists"]
        subprocess.run(["pg_restore", *connection, *options], env=login, stdin=dump, check=True)
    other = environment | {"MLFLOW_ARTIFACTS_DESTINATION": "s3://restored/artifacts"}
    copy_bucket(other, "restore", saved)
    copy_bucket(other, "save", again)

    uri = address.set(database="restored").render_as_string(hide_password=False)
    restored = MlflowClient(uri, uri).get_run(run.info.run_id)
    assert restored.data.metrics == {"answer": 42}
    files = {path.relative_to(saved): path.read_bytes() for path in saved.rglob("*") if path.is_file()}
    assert b"kept" in files.values()
    assert {path.relative_to(again): path.read_bytes() for path in again.rglob("*") if path.is_file()} == files


def copy_bucket(environment: dict[str, str], what: str, folder: Path) -> str:
    """Save or restore the bucket as docs/team-stack.md says, and return what that prints."""
    command = [sys.executable, "-m", "operations.bucket", what, str(folder)]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()
