"""A generator in service as its user puts it there: by the deployments that promote, evaluate and generate."""

import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient

from dcgan.rendering import read_png
from tests.desk import Desk

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

MODEL = "dcgan-generator"


def run_deployment(desk: Desk, name: str, *parameters: str) -> subprocess.CompletedProcess[str]:
    """Run a deployment through its worker, watched to its end."""
    given = [word for parameter in parameters for word in ("--param", parameter)]
    return desk.run_prefect("deployment", "run", name, *given, "--watch")


@pytest.fixture(scope="module")
def trained(desk: Desk) -> Desk:
    """Return the running servers and workers, after `dcgan/smoke` has registered a version."""
    desk.deploy()
    done = run_deployment(desk, "dcgan/smoke", "source=bundled")
    assert done.returncode == 0, done.stdout + done.stderr
    return desk


def test_each_deployment_does_its_work(trained: Desk) -> None:
    """A version without verdict is refused, then promoted by force; the champion makes pictures and is evaluated."""
    client = MlflowClient(trained.mlflow)
    refused = run_deployment(trained, "dcgan-promote/promote", "version=1")
    assert refused.returncode == 1
    assert client.get_registered_model(MODEL).aliases == {}

    assert run_deployment(trained, "dcgan-promote/promote", "version=1", "force=true").returncode == 0
    assert {alias: str(version) for alias, version in client.get_registered_model(MODEL).aliases.items()} == {
        "champion": "1"
    }
    assert client.get_model_version(MODEL, "1").tags["dcgan.forced"].startswith("Version 1 has no verdict")

    assert run_deployment(trained, "dcgan-generate/generate", "count=9", "version=1").returncode == 0
    (picture,) = (Path(trained.state) / "generated").iterdir()
    assert read_png(picture.read_bytes()).shape == (84, 84)

    assert run_deployment(trained, "dcgan-evaluate/evaluate", "source=bundled").returncode == 0
    (version,) = client.search_model_versions(f"name = '{MODEL}'")
    metrics = client.get_run(version.run_id).data.metrics
    assert {"quality/frechet_distance", "judge/frechet_distance"} <= metrics.keys()
