"""The deployments that promote, evaluate and generate, run one after the other as a user runs them."""

import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient

from dcgan.images import read_png
from tests.service_stack import ServiceStack
from tracking.tags import MODEL_NAME

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def run_deployment(stack: ServiceStack, name: str, *parameters: str) -> subprocess.CompletedProcess[str]:
    """Run a deployment through its worker, and wait until it ends."""
    options = [word for parameter in parameters for word in ("--param", parameter)]
    return stack.run_prefect("deployment", "run", name, *options, "--watch")


@pytest.fixture(scope="module")
def trained(stack: ServiceStack) -> ServiceStack:
    """Return the running servers and workers, after `dcgan/smoke` has registered a version."""
    stack.deploy()
    done = run_deployment(stack, "dcgan/smoke", "source=bundled")
    assert done.returncode == 0, done.stdout + done.stderr
    return stack


def test_each_deployment_does_its_work(trained: ServiceStack) -> None:
    """A version without a verdict is refused, then promoted by force; the champion generates and is evaluated."""
    client = MlflowClient(trained.mlflow)
    refused = run_deployment(trained, "dcgan-promote/promote", "version=1")
    assert refused.returncode == 1
    assert client.get_registered_model(MODEL_NAME).aliases == {}

    assert run_deployment(trained, "dcgan-promote/promote", "version=1", "force=true").returncode == 0
    assert {alias: str(version) for alias, version in client.get_registered_model(MODEL_NAME).aliases.items()} == {
        "champion": "1"
    }
    assert client.get_model_version(MODEL_NAME, "1").tags["dcgan.forced"].startswith("Version 1 has no verdict")

    assert run_deployment(trained, "dcgan-generate/generate", "count=9", "version=1").returncode == 0
    (grid,) = (Path(trained.state) / "generated").iterdir()
    assert read_png(grid.read_bytes()).shape == (84, 84)

    assert run_deployment(trained, "dcgan-evaluate/evaluate", "source=bundled").returncode == 0
    (version,) = client.search_model_versions(f"name = '{MODEL_NAME}'")
    metrics = client.get_run(version.run_id).data.metrics
    assert {"quality/frechet_distance", "quality_heldout/frechet_distance"} <= metrics.keys()
