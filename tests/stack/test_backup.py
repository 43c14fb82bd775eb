"""The backup of docs/team-stack.md: databases and the bucket, saved while the servers run, and restored elsewhere."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from mlflow import MlflowClient
from sqlalchemy.engine import URL, make_url

from dcgan.files import TEMPORARY_PREFIX
from tests.service_stack import CHECKOUT, ServiceStack
from tests.stack.processes import process_of

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

DATABASES = ("mlflow", "prefect")


@pytest.mark.usefixtures("logins")
def test_what_was_saved_can_be_restored(team: ServiceStack, tmp_path: Path) -> None:
    """A run, its artifact and the deployments are in other databases and in another bucket afterwards."""
    client = MlflowClient(team.mlflow, team.mlflow)
    run = client.create_run(client.create_experiment("backup"))
    client.log_metric(run.info.run_id, "answer", 42)
    client.log_text(run.info.run_id, "kept", "note.txt")

    environment = process_of(team, "mlflow").environ()
    address = make_url(environment["MLFLOW_BACKEND_STORE_URI"])
    connection = [f"--host={address.host}", f"--port={address.port}", f"--username={address.username}"]
    login = {"PATH": environment["PATH"], "PGPASSWORD": address.password}
    for name in DATABASES:
        with (tmp_path / f"{name}.dump").open("wb") as dump:
            subprocess.run(["pg_dump", *connection, "--format=custom", name], env=login, stdout=dump, check=True)
    saved, again = tmp_path / "saved", tmp_path / "again"
    copy_bucket(environment, "save", saved)
    assert copy_bucket(environment, "save", saved) == "0 files were copied."

    session = psycopg2.connect(address.set(database="postgres").render_as_string(hide_password=False))
    session.autocommit = True
    for name in DATABASES:
        with session.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE restored_{name}")
        with (tmp_path / f"{name}.dump").open("rb") as dump:
            options = [f"--dbname=restored_{name}", "--clean", "--if-exists"]
            subprocess.run(["pg_restore", *connection, *options], env=login, stdin=dump, check=True)
    session.close()
    (saved / "artifacts" / f"{TEMPORARY_PREFIX}1").write_bytes(b"half")  # of a copy that was killed
    other = environment | {"MLFLOW_ARTIFACTS_DESTINATION": "s3://restored/artifacts"}
    copy_bucket(other, "restore", saved)
    copy_bucket(other, "save", again)
    (saved / "artifacts" / f"{TEMPORARY_PREFIX}1").unlink()

    expected = sorted(each["id"] for each in team.find("deployments"))
    assert expected
    assert deployments(address.set(database="restored_prefect")) == expected
    uri = address.set(database="restored_mlflow").render_as_string(hide_password=False)
    restored = MlflowClient(uri, uri).get_run(run.info.run_id)
    assert restored.data.metrics == {"answer": 42}
    files = {path.relative_to(saved): path.read_bytes() for path in saved.rglob("*") if path.is_file()}
    assert b"kept" in files.values()
    assert {path.relative_to(again): path.read_bytes() for path in again.rglob("*") if path.is_file()} == files


def deployments(address: URL) -> list[str]:
    """Return the ids of the deployments in a database of Prefect's."""
    uri = address.render_as_string(hide_password=False)
    with closing(psycopg2.connect(uri)) as session, session.cursor() as cursor:
        cursor.execute("SELECT CAST(id AS text) FROM deployment ORDER BY 1")
        return [identifier for (identifier,) in cursor.fetchall()]


def copy_bucket(environment: dict[str, str], what: str, folder: Path) -> str:
    """Save or restore the bucket as docs/team-stack.md says, and return what that prints."""
    command = [sys.executable, "-m", "operations.bucket", what, str(folder)]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()
