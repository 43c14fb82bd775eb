"""The image, the job template of the pool `gpu-docker`, and the errors that their users see: without Docker."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from prefect.client.schemas.objects import FlowRun
from prefect_docker.worker import DockerWorkerJobConfiguration

from operations.deploy import DOCKER, PROJECT_FILE
from operations.docker_worker import JobConfiguration
from tests.deploy.manifests import CHECKOUT, found

TEMPLATE = DOCKER.read_template()
VARIABLES = TEMPLATE["variables"]["properties"]
INSTRUCTIONS = re.findall(r"^([A-Z]+) ((?:.*\\\n)*.*)", (CHECKOUT / "Dockerfile").read_text(), re.MULTILINE)
MISSING = """
import sys
sys.modules["prefect_docker"] = None  # as if it were not installed
from flows.cli import main
sys.exit(main(["worker", "--pool", "gpu-docker"]))
"""


def argument(instruction: str) -> str:
    """Return the arguments of the only instruction of a kind in the Dockerfile."""
    (text,) = (text for name, text in INSTRUCTIONS if name == instruction)
    return text


def test_every_variable_is_used_and_every_key_known() -> None:
    """Prefect ignores a variable that the template does not use, and a key that the worker does not know."""
    written = json.dumps(TEMPLATE["job_configuration"])
    assert set(re.findall(r"{{ (\w+) }}", written)) == set(VARIABLES)
    assert set(TEMPLATE["job_configuration"]) <= set(DockerWorkerJobConfiguration.model_fields)
    assert all(variable["title"] and variable["description"] for variable in VARIABLES.values())


def test_a_deployment_without_a_gpu_asks_for_none() -> None:
    """The variable that takes the GPU away is one of the template, whose default asks for all."""
    assert DOCKER.without_gpu == {"device_requests": []}
    assert VARIABLES["device_requests"]["default"] == [{"count": -1, "capabilities": [["gpu"]]}]
    pools = {each["work_pool"]["name"] for each in yaml.safe_load(PROJECT_FILE.read_text())["deployments"]}
    assert pools == {"gpu", "cpu"}


def test_containers_cannot_do_much() -> None:
    """Their root file system is read-only, and they have no rights that they do not need."""
    settings = TEMPLATE["job_configuration"]["container_create_kwargs"]
    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges"]
    assert list(found(TEMPLATE["job_configuration"], "privileged")) == []


def test_template_and_image_agree() -> None:
    """The image has the version of the project, and the folders that the template names."""
    assert VARIABLES["image"]["default"] == f"dcgan:{version('dcgan')}"
    assert f"ARG VERSION={version('dcgan')}" in (CHECKOUT / "Dockerfile").read_text()
    environment = dict(re.findall(r"(\w+)=(\S+)", argument("ENV")))
    for name in ("HOME", "DCGAN_HOME", "DCGAN_STATE", "PREFECT_HOME"):
        assert environment[name] == VARIABLES["env"]["default"][name]
    assert argument("VOLUME") == environment["DCGAN_STATE"] == "/state"
    assert argument("WORKDIR") == environment["DCGAN_HOME"] == "/app"


def test_image_is_for_a_user_without_rights() -> None:
    """It runs as the user that Kubernetes' manifests name, asks nobody for news, and installs by hash."""
    assert argument("USER") == "1000:1000"
    environment = dict(re.findall(r"(\w+)=(\S+)", argument("ENV")))
    assert (environment["DO_NOT_TRACK"], environment["MLFLOW_DISABLE_TELEMETRY"]) == ("1", "true")
    installs = [text for name, text in INSTRUCTIONS if name == "RUN" and "pip install" in text]
    assert all("--require-hashes" in text or "--no-index" in text for text in installs)
    assert len(installs) == 2


def test_nothing_private_gets_into_the_image() -> None:
    """What git ignores is left out, and the history too."""
    ignored = {line.strip("/") for line in (CHECKOUT / ".gitignore").read_text().split()}
    left_out = {line.removeprefix("**/") for line in (CHECKOUT / ".dockerignore").read_text().splitlines()}
    assert ignored | {".git"} <= left_out


def test_flow_runs_get_the_servers_of_their_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's address and password and the database of sweeps are the worker's, and a job variable goes before."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example:5000")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "only-in-the-environment")
    monkeypatch.delenv("DCGAN_SWEEPS_URI", raising=False)
    configuration = JobConfiguration(image="dcgan", env={"MLFLOW_TRACKING_USERNAME": "bob"})
    configuration.prepare_for_flow_run(FlowRun(flow_id=uuid4()))
    assert configuration.env["MLFLOW_TRACKING_URI"] == "http://mlflow.example:5000"
    assert configuration.env["MLFLOW_TRACKING_PASSWORD"] == "only-in-the-environment"
    assert configuration.env["MLFLOW_TRACKING_USERNAME"] == "bob"
    assert "DCGAN_SWEEPS_URI" not in configuration.env


def test_a_worker_without_its_packages_is_one_sentence() -> None:
    """`dcgan worker --pool gpu-docker` names what is missing and the command that installs it."""
    done = subprocess.run([sys.executable, "-c", MISSING], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "error: The pool gpu-docker needs prefect-docker, which is not installed: run 'make setup PRODUCTION=1'.\n"
    )


def test_a_worker_without_docker_is_one_sentence(tmp_path: Path) -> None:
    """`dcgan worker --pool gpu-docker` says that Docker does not answer, before it asks for flow runs."""
    environment = {**os.environ, "DOCKER_HOST": f"unix://{tmp_path / 'absent.sock'}"}
    command = [sys.executable, "-m", "operations.docker_worker", "--pool", "gpu-docker"]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"error: Docker does not answer \(.*\): start it, .* or set DOCKER_HOST\.\n", done.stderr)


def test_only_one_pool_of_containers_at_a_time() -> None:
    """`dcgan deploy --docker --kubernetes` is refused."""
    command = [sys.executable, "-m", "operations.deploy", "--docker", "--kubernetes"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "not allowed with argument --docker" in done.stderr
