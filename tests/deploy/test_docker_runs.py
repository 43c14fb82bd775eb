"""Flow runs in containers: a real Docker, the image, the servers of `make ui` with passwords, and the real worker."""

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker
import pytest
from docker.models.containers import Container
from mlflow import MlflowClient

from operations.deploy import DOCKER
from tests.service_stack import CHECKOUT, ServiceStack, read_until_ready, start_stack, wait_until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

PREFECT_LOGIN = ("dcgan", "only-prefect-knows-this-one")
MLFLOW_LOGIN = ("dcgan", "only-mlflow-knows-this-one")
IMAGE = DOCKER.read_template()["variables"]["properties"]["image"]["default"]
OTHER_ARCHITECTURE = {"amd64": "arm64", "arm64": "amd64"}
PREFECT_ENDS = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    """Yield a client of the Docker that runs, which has the image."""
    client = docker.from_env()
    assert client.images.list(IMAGE), f"make test-docker needs the image {IMAGE}, which make image builds"
    yield client
    client.close()


@dataclass(frozen=True)
class Machine:
    """Servers that ask for passwords, to which `dcgan deploy --docker` has deployed, and a worker of the pool."""

    stack: ServiceStack
    client: docker.DockerClient
    volume: str

    def start(self, deployment: str, *options: str, **variables: str) -> str:
        """Start a flow run with the test's own volume, and return its id."""
        given = {"state": self.volume, "image_pull_policy": "Never", **variables}
        pairs = [part for name, value in given.items() for part in ("--job-variable", f"{name}={value}")]
        done = self.stack.run_prefect("deployment", "run", deployment, *pairs, *options)
        assert done.returncode == 0, done.stderr
        return next(word for word in done.stdout.split() if len(word) == 36 and word.count("-") == 4)

    def flow_run(self, flow_run: str) -> dict[str, Any]:
        """Return what Prefect's server knows about a flow run."""
        return self.stack.ask(f"flow_runs/{flow_run}")

    def end(self, flow_run: str) -> tuple[str, str]:
        """Return the type and message of the state in which a flow run ends."""
        state = wait_until("the end", lambda: self._ended(flow_run))
        return state["type"], state["message"] or ""

    def states(self, flow_run: str) -> list[str]:
        """Return the types of all states that a flow run had, in their order."""
        return [state["type"] for state in self.stack.ask(f"flow_run_states/?flow_run_id={flow_run}")]

    def containers(self, flow_run: str) -> list[Container]:
        """Return the containers of a flow run."""
        return self.client.containers.list(all=True, filters={"label": f"io.prefect.flow-run-id={flow_run}"})

    def _ended(self, flow_run: str) -> dict[str, str] | None:
        state = self.flow_run(flow_run)["state"]
        return state if state["type"] in PREFECT_ENDS else None


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, client: docker.DockerClient) -> Iterator[Machine]:
    """Yield a machine whose worker has started; its containers and its volume go afterwards."""
    folder = tmp_path_factory.mktemp("docker")
    passwords = {
        "PREFECT_API_AUTH_STRING": ":".join(PREFECT_LOGIN),
        "MLFLOW_TRACKING_USERNAME": MLFLOW_LOGIN[0],
        "MLFLOW_TRACKING_PASSWORD": MLFLOW_LOGIN[1],
    }
    stack = start_stack(folder / "state", DCGAN_SERVE_ARTIFACTS="1", **passwords)
    machine = Machine(stack, client, f"dcgan-test-{uuid4().hex[:8]}")
    try:
        read_until_ready(stack)
        stack.deploy("--docker")
        with (folder / "worker.log").open("wb") as log:
            command = [sys.executable, "-m", "flows.cli", "worker", "--pool", DOCKER.name, "--name", "here"]
            environment = {**stack.environment, "PREFECT_WORKER_QUERY_SECONDS": "1"}
            worker = subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=log, stderr=log)
        try:
            yield machine
        finally:
            worker.terminate()
            worker.wait()
    finally:
        for container in client.containers.list(all=True, filters={"volume": machine.volume}):
            container.remove(force=True)
        for volume in client.volumes.list(filters={"name": machine.volume}):
            volume.remove()
        stack.process.terminate()
        stack.process.communicate(timeout=120)


@pytest.fixture
def of_another_architecture(client: docker.DockerClient) -> Iterator[str]:
    """Yield the name of an image for processors of another kind, with an empty layer."""
    name = f"dcgan-test-{uuid4().hex[:8]}:other"
    layer = io.BytesIO()
    tarfile.open(fileobj=layer, mode="w").close()
    config = {
        "architecture": OTHER_ARCHITECTURE[client.version()["Arch"]],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {
        "config.json": json.dumps(config).encode(),
        "manifest.json": json.dumps(manifest).encode(),
        "layer.tar": layer.getvalue(),
    }
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for file, content in files.items():
            member = tarfile.TarInfo(file)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    client.images.load(archive.getvalue())
    yield name
    client.images.remove(name)


def test_a_killed_container_is_resumed_by_another(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training run whose container dies resumes in a new one, in the same MLflow run, from the shared state."""
    flow_run = machine.start("dcgan/smoke", "--param", "epochs=4", "--param", "source=bundled")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", MLFLOW_LOGIN[0])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", MLFLOW_LOGIN[1])
    mlflow = MlflowClient(machine.stack.mlflow)

    def recorded() -> int:
        runs = mlflow.search_runs([each.experiment_id for each in mlflow.search_experiments()])
        return max((int(run.data.tags.get("dcgan.recorded_epochs", 0)) for run in runs), default=0)

    wait_until("the first epoch", lambda: recorded() >= 1)
    (first,) = machine.containers(flow_run)
    assert first.attrs["Config"]["User"] == "1000:1000"
    assert first.attrs["HostConfig"]["ReadonlyRootfs"] is True
    assert not first.attrs["HostConfig"]["DeviceRequests"]
    assert set(first.attrs["HostConfig"]["CapDrop"]) == {"ALL"}
    first.kill()
    wait_until("another container", lambda: len(machine.containers(flow_run)) > 1)
    assert machine.end(flow_run)[0] == "COMPLETED"

    (run,) = mlflow.search_runs([each.experiment_id for each in mlflow.search_experiments()])
    assert run.info.status == "FINISHED"
    steps = [metric.step for metric in mlflow.get_metric_history(run.info.run_id, "train/generator_loss")]
    assert steps == list(range(1, 5))
    (version,) = mlflow.search_model_versions(f"run_id = '{run.info.run_id}'")
    assert version.version == "1"
    logs = b"".join(container.logs() for container in machine.containers(flow_run)).decode()
    assert "Resuming" in logs or "resumed" in logs
    assert all(secret not in logs for secret in (PREFECT_LOGIN[1], MLFLOW_LOGIN[1]))


def test_a_gpu_that_is_not_there_is_reported_once(machine: Machine) -> None:
    """A deployment that asks for GPUs crashes where Docker has none to give, with Docker's reason, and stays so."""
    if machine.client.info().get("Runtimes", {}).get("nvidia"):
        pytest.skip("this machine's Docker has GPUs")
    flow_run = machine.start("dcgan/train")
    kind, message = machine.end(flow_run)
    assert kind == "CRASHED"
    assert "Docker refuses the container: could not select device driver" in message
    assert machine.containers(flow_run) == []
    # a later flow run has gone all its way: what an automation would have done to the first one, it has done
    machine.end(machine.start("dcgan-generate/generate"))
    assert machine.states(flow_run).count("CRASHED") == 1
    assert machine.flow_run(flow_run)["state_type"] == "CRASHED"


def test_an_image_for_another_architecture_is_refused(machine: Machine, of_another_architecture: str) -> None:
    """The flow run says for which processors the image is, and no container is left."""
    flow_run = machine.start("dcgan/smoke", image=of_another_architecture)
    kind, message = machine.end(flow_run)
    here = machine.client.version()["Arch"]
    assert kind == "CRASHED"
    assert f"is for {OTHER_ARCHITECTURE[here]}; expected one for {here}" in message
    assert machine.containers(flow_run) == []


def test_a_worker_in_a_container_is_healthy(machine: Machine, client: docker.DockerClient) -> None:
    """The image's own command is a worker of the pool `gpu`, and its health check finds it alive."""
    names = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "MLFLOW_TRACKING_URI")
    container = client.containers.run(
        IMAGE,
        detach=True,
        init=True,
        network_mode="host",
        read_only=True,
        tmpfs={"/tmp": ""},  # noqa: S108 - in the container
        environment={name: machine.stack.environment[name] for name in names},
        healthcheck={"interval": 1_000_000_000},
    )
    try:
        wait_until(
            "its health", lambda: client.api.inspect_container(container.id)["State"]["Health"]["Status"] == "healthy"
        )
    finally:
        container.remove(force=True, v=True)


def test_mnist_is_in_the_image(client: docker.DockerClient, tmp_path: Path) -> None:
    """The command in a container without a network and without rights trains, and writes in its volumes only."""
    output = client.containers.run(
        IMAGE,
        ["dcgan", "train", "--recipe", "smoke", "--epochs", "1", "--source", "bundled"],
        init=True,
        remove=True,
        network_mode="none",
        read_only=True,
        tmpfs={"/tmp": ""},  # noqa: S108 - in the container
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        stderr=True,
    ).decode()
    assert "Registered models:/dcgan-generator/1" in output
    assert "WARNING" not in output
    assert "Traceback" not in output
