"""The deployments that promote, evaluate and generate, run one after the other as a user runs them, and messages."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from imageio.v3 import imread
from mlflow import MlflowClient

from tests.service_stack import CHECKOUT, ServiceStack, wait_until
from tests.web import Web, respond
from tracking.tags import MODEL_NAME

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

DOCUMENT = CHECKOUT / "docs" / "servers.md"


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


def save_webhook(stack: ServiceStack, address: str) -> None:
    """Make the block of docs/servers.md that sends messages to a webhook."""
    recipe = DOCUMENT.read_text().split("```python\nfrom prefect.blocks.notifications import Custom")[1].split("```")[0]
    program = f"from prefect.blocks.notifications import Custom{recipe}".replace("https://chat.example/hook", address)
    assert address in program
    subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, env=stack.environment, check=True)


def test_a_webhook_gets_a_failed_run_and_a_new_champion(trained: ServiceStack, web: Web) -> None:
    """A version without a verdict is refused, then promoted by force; each is one message, and nothing else is."""
    client = MlflowClient(trained.mlflow)
    web.answer("/hook", respond(b"ok"))
    save_webhook(trained, f"{web.address}/hook")
    trained.deploy("--notify", "custom-webhook/dcgan")
    trained.deploy()
    refused = run_deployment(trained, "dcgan-promote/promote", "version=1")
    assert refused.returncode == 1
    assert client.get_registered_model(MODEL_NAME).aliases == {}

    assert run_deployment(trained, "dcgan-promote/promote", "version=1", "force=true").returncode == 0
    assert {alias: str(version) for alias, version in client.get_registered_model(MODEL_NAME).aliases.items()} == {
        "champion": "1"
    }
    assert client.get_model_version(MODEL_NAME, "1").tags["dcgan.forced"].startswith("Version 1 has no verdict")
    wait_until("both messages", lambda: len(web.posted) >= 2)
    promoted, failed = sorted((json.loads(body) for body in web.posted), key=lambda each: each["subject"])
    assert promoted["subject"] == "dcgan-generator: version 1 is in service"
    assert promoted["body"].startswith("Version 1 is the champion now; before, it was none.\nhttp")
    assert failed["subject"] == "dcgan-promote: promote-1 failed"
    assert "Version 1 has no verdict" in failed["body"]
    assert f"{trained.prefect.removesuffix('/api')}/" in failed["body"]


def test_the_champion_generates_and_is_evaluated(trained: ServiceStack) -> None:
    """The deployments use the version in service, and what they make is where it belongs."""
    client = MlflowClient(trained.mlflow)
    assert run_deployment(trained, "dcgan-generate/generate", "count=9", "version=1").returncode == 0
    (grid,) = (Path(trained.state) / "generated").iterdir()
    assert imread(grid).shape == (84, 84)

    assert run_deployment(trained, "dcgan-evaluate/evaluate", "source=bundled").returncode == 0
    (version,) = client.search_model_versions(f"name = '{MODEL_NAME}'")
    metrics = client.get_run(version.run_id).data.metrics
    assert {"quality/frechet_distance", "quality_heldout/frechet_distance"} <= metrics.keys()
