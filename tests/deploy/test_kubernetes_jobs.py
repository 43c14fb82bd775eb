"""Flow runs on Kubernetes: what Prefect's real worker asks a Kubernetes API for, which is a fake one.

The Prefect server, the deployments and the worker are real; the worker runs with the arguments and the environment of
its manifest.
"""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import httpx
import kmock
import kubernetes_validate
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import WorkerStatus
from prefect.states import Cancelling, Running

from operations.deploy import KUBERNETES, ONE_AT_A_TIME, PROJECT_FILE
from tasks.workers import runs_several
from tests.deploy.manifests import CHECKOUT, KUSTOMIZATION, OBJECTS, PODS, TEMPLATE, found
from tests.servers import prefect_api
from tests.service_stack import free_port, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PASSWORD = "dcgan:only-in-the-secret"
JOBS = kmock.resource("batch/v1/jobs")
PODS_OF_JOBS = kmock.resource("v1/pods")
# the worker's observer waits until it has found the last two, and then uses neither
DISCOVERED = {
    JOBS: "Job",
    PODS_OF_JOBS: "Pod",
    kmock.resource("v1/namespaces"): "Namespace",
    kmock.resource("apiextensions.k8s.io/v1/customresourcedefinitions"): "CustomResourceDefinition",
}
FLOW_RUN = "prefect.io/flow-run-id"
VERBS = {"FETCH": "get", "UPDATE": "patch"}  # where Kubernetes' word is another one than kmock's


class KubernetesApi:
    """A Kubernetes API that accepts jobs, names them, and reports the states that a test sets.

    Attributes:
        url: Its address.
        requests: Every request that it got.
    """

    def __init__(self) -> None:
        """Serve the API in a thread of its own."""
        self._loop = asyncio.new_event_loop()
        self._handler = kmock.KubernetesScaffold()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._serve()])
        self.url = ""

    @property
    def requests(self) -> list[kmock.Request]:
        """Every request that the API got."""
        return list(self._handler)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def created(self) -> dict[str, dict[str, Any]]:
        """Return the jobs that were created, by the flow runs that their labels name."""
        return {
            each.data["metadata"]["labels"][FLOW_RUN]: each.data
            for each in self.requests
            if each.resource == JOBS and each.action == kmock.action.CREATE
        }

    def deleted(self) -> set[str]:
        """Return the names of the jobs that were deleted."""
        return {each.name or "" for each in self.requests if each.action == kmock.action.DELETE}

    def fail(self, job: dict[str, Any]) -> None:
        """Report that the pod of a job has died."""
        event = {"type": "MODIFIED", "object": {**_named(job), "status": {"failed": 1}}}
        self._loop.call_soon_threadsafe(lambda: self._handler[kmock.action.WATCH, JOBS][...] << (event, ...))

    async def _serve(self) -> None:
        api = self._handler
        for resource, kind in DISCOVERED.items():
            api.resources[resource] = {"kind": kind, "namespaced": True, "verbs": ["list", "watch"]}
        for resource in (JOBS, PODS_OF_JOBS):
            api[kmock.action.LIST, resource] << {
                "kind": f"{DISCOVERED[resource]}List",
                "apiVersion": "/".join(filter(None, (resource.group, resource.version))),
                "metadata": {"resourceVersion": "1"},
                "items": [],
            }
            api[kmock.action.WATCH, resource] << (b"", ...)
        api[kmock.action.CREATE, JOBS] << (lambda request: _named(request.data))
        api[kmock.action.DELETE, JOBS] << {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        async with api, kmock.Server(api) as server:
            self.url = str(server.url)
            self._ready.set()
            await self._stop.wait()


def _named(job: dict[str, Any]) -> dict[str, Any]:
    """Return a job as Kubernetes stores it: with a name and an id."""
    metadata = job["metadata"]
    flow_run = metadata["labels"][FLOW_RUN]
    name = f"{metadata['generateName']}{flow_run[:8]}"
    return {**job, "metadata": {**metadata, "name": name, "uid": flow_run, "resourceVersion": "2"}}


@dataclass(frozen=True)
class Cluster:
    """A deployed project with a running worker."""

    api: KubernetesApi
    client: SyncPrefectClient
    health: str

    def start(self, deployment: str, **job_variables: object) -> UUID:
        """Start a flow run of a deployment."""
        found_deployment = self.client.read_deployment_by_name(deployment)
        return self.client.create_flow_run_from_deployment(found_deployment.id, job_variables=job_variables).id

    def job(self, flow_run: UUID) -> dict[str, Any]:
        """Return the job that the worker made of a flow run."""
        return wait_until("the job", lambda: self.api.created().get(str(flow_run)))

    def state(self, flow_run: UUID) -> str:
        """Return the name of a flow run's state."""
        return self.client.read_flow_run(flow_run).state_name or ""


@contextmanager
def worker(url: str, api: KubernetesApi, folder: Path) -> Iterator[str]:
    """Run the worker as its manifest says, and yield the address of its health check."""
    (container,) = PODS["Deployment/prefect-worker"]["spec"]["containers"]
    references = {"secretKeyRef": PASSWORD, "fieldRef": KUSTOMIZATION["namespace"]}
    variables = {
        each["name"]: each["value"] if "value" in each else references[next(iter(each["valueFrom"]))]
        for each in container["env"]
    }
    config = folder / "kubeconfig"
    name = {"name": "fake"}
    config.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "fake",
                "clusters": [{**name, "cluster": {"server": api.url}}],
                "users": [{**name, "user": {"token": "a-service-account's"}}],
                "contexts": [{**name, "context": {"cluster": "fake", "user": "fake"}}],
            }
        )
    )
    port = str(free_port())
    variables |= {
        "PREFECT_API_URL": url,
        "PREFECT_HOME": str(folder / "worker"),
        "HOME": str(folder),
        "KUBECONFIG": str(config),
        "PREFECT_WORKER_WEBSERVER_PORT": port,
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *container["args"]], env={**os.environ, **variables}, stdout=log, stderr=log
        )
        try:
            yield f"http://127.0.0.1:{port}{container['livenessProbe']['httpGet']['path']}"
        finally:
            process.terminate()
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Yield a cluster to which `dcgan deploy --kubernetes` has deployed, on a server that asks for a password."""
    folder = tmp_path_factory.mktemp("kubernetes")
    server = {
        "PREFECT_SERVER_API_AUTH_STRING": PASSWORD,
        "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_CANCELLING_TIMEOUT_SECONDS": "1",
        "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_LOOP_SECONDS": "1",
    }
    with prefect_api(folder, **server) as (_, url), KubernetesApi() as api:
        environment = {**os.environ, "PREFECT_API_URL": url, "PREFECT_API_AUTH_STRING": PASSWORD}
        environment |= {"DCGAN_HOME": "/home/somebody/dcgan"}  # as in a shell after `make env`
        command = [sys.executable, "-m", "flows.cli", "deploy", "--kubernetes"]
        subprocess.run(command, cwd=CHECKOUT, env=environment, check=True)
        with SyncPrefectClient(url, auth_string=PASSWORD) as client, worker(url, api, folder) as health:
            yield Cluster(api, client, health)


@pytest.fixture(scope="module")
def training(cluster: Cluster) -> dict[str, Any]:
    """Return the job of a training run."""
    return cluster.job(cluster.start("dcgan/train"))


def container_of(job: dict[str, Any]) -> dict[str, Any]:
    """Return the container of a job."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return container


def test_every_deployment_is_on_the_pool(cluster: Cluster) -> None:
    """All deployments of prefect.yaml are there, on the pool, with its template and the image of kustomization.yaml."""
    deployments = cluster.client.read_deployments()
    names = {each["name"] for each in yaml.safe_load(PROJECT_FILE.read_text())["deployments"]}
    assert {each.name for each in deployments} == names
    assert {each.work_pool_name for each in deployments} == {KUBERNETES.name}
    for deployment in deployments:  # the folder is that of whatever runs it, not of who deployed
        assert deployment.pull_steps == [
            {"prefect.deployments.steps.set_working_directory": {"directory": "{{ $DCGAN_HOME }}"}}
        ]
    pool = cluster.client.read_work_pool(KUBERNETES.name)
    assert pool.type == "kubernetes"
    assert pool.base_job_template["job_configuration"] == TEMPLATE["job_configuration"]
    for _, queue in ONE_AT_A_TIME:
        assert cluster.client.read_work_queue_by_name(queue, KUBERNETES.name).concurrency_limit == 1


def test_a_sweep_and_its_trials_share_the_pool(cluster: Cluster, training: dict[str, Any]) -> None:
    """One worker starts a job for each: a sweep that waits for its trials does not keep them from running."""
    workers = cluster.client.read_workers_for_work_pool(KUBERNETES.name)
    assert [each.status for each in workers] == [WorkerStatus.ONLINE]
    assert runs_several(cluster.client, KUBERNETES.name)


def test_worker_is_healthy(cluster: Cluster, training: dict[str, Any]) -> None:
    """The worker answers at the path that Kubernetes probes."""
    assert httpx.get(cluster.health).json() == {"message": "OK"}


@pytest.mark.parametrize("kubernetes", ["1.33", "1.37"])
def test_job_is_valid(training: dict[str, Any], kubernetes: str) -> None:
    """The job fits the schema, but for two fields that Prefect insists on and Kubernetes drops."""
    pod = dict(training["spec"]["template"]["spec"])
    assert (pod.pop("parallelism"), pod.pop("completions")) == (1, 1)
    template = {**training["spec"]["template"], "spec": pod}
    job = {**training, "spec": {**training["spec"], "template": template}}
    kubernetes_validate.validate(job, kubernetes, strict=True)


def test_training_gets_a_gpu(training: dict[str, Any]) -> None:
    """A training run has one GPU, on a node that has one, whose taint it tolerates."""
    pod = training["spec"]["template"]["spec"]
    assert container_of(training)["resources"] == {
        "requests": {"cpu": "2", "memory": "8Gi"},
        "limits": {"nvidia.com/gpu": 1, "memory": "8Gi"},
    }
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


def test_prefect_restarts_flow_runs_and_kubernetes_does_not(training: dict[str, Any]) -> None:
    """No pod or job is started again, Prefect reschedules what a drained node ends, and a finished job goes."""
    assert training["spec"]["backoffLimit"] == 0
    assert training["spec"]["ttlSecondsAfterFinished"] == 86400
    pod = training["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] == 90
    variables = {each["name"]: each.get("value") for each in container_of(training)["env"]}
    assert variables["PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"] == "reschedule"
    assert container_of(training)["args"] == ["prefect", "flow-run", "execute"]


def test_state_is_in_the_pod(training: dict[str, Any]) -> None:
    """Everything that a flow run writes is in volumes that end with its pod."""
    volumes = {each["name"]: each for each in training["spec"]["template"]["spec"]["volumes"]}
    assert volumes["state"] == {"name": "state", "emptyDir": {"sizeLimit": "10Gi"}}
    mounts = {each["mountPath"]: each["name"] for each in container_of(training)["volumeMounts"]}
    assert mounts == {"/state": "state", "/tmp": "tmp"}  # noqa: S108
    variables = {each["name"]: each.get("value") for each in container_of(training)["env"]}
    for name in ("DCGAN_STATE", "HOME", "PREFECT_HOME"):
        assert variables[name].startswith("/state")


def test_environment_has_secrets_by_reference(training: dict[str, Any]) -> None:
    """Passwords come from secrets, the server's too, although the worker knows it; each variable is there once."""
    environment = container_of(training)["env"]
    assert PASSWORD not in str(training)
    assert len({each["name"] for each in environment}) == len(environment)
    secrets = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in environment if "valueFrom" in each}
    assert secrets == {
        "PREFECT_API_AUTH_STRING": {"name": "prefect-auth", "key": "auth-string"},
        "MLFLOW_TRACKING_USERNAME": {"name": "mlflow-login", "key": "username"},
        "MLFLOW_TRACKING_PASSWORD": {"name": "mlflow-login", "key": "password"},
        "DCGAN_SWEEPS_URI": {"name": "dcgan-sweeps", "key": "uri"},
    }


def test_pod_is_the_one_that_policies_select(training: dict[str, Any]) -> None:
    """Prefect's labels leave the one by which the network policies know flow runs."""
    labels = training["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/component"] == "flow-run"
    assert {FLOW_RUN, "prefect.io/deployment-name"} <= set(labels)
    assert training["spec"]["template"]["spec"]["serviceAccountName"] == "flow-run"


def test_job_variables_change_a_flow_run(cluster: Cluster) -> None:
    """A flow run may ask for two GPUs, another node, more memory and one more variable, and keeps the rest."""
    job = cluster.job(
        cluster.start(
            "dcgan/train", gpus=2, memory="32Gi", node_selector={"pool": "a100"}, env={"TF_CPP_MIN_LOG_LEVEL": "0"}
        )
    )
    assert container_of(job)["resources"]["limits"] == {"nvidia.com/gpu": 2, "memory": "32Gi"}
    assert job["spec"]["template"]["spec"]["nodeSelector"] == {"pool": "a100"}
    variables = {each["name"]: each.get("value") for each in container_of(job)["env"]}
    assert variables["TF_CPP_MIN_LOG_LEVEL"] == "0"
    assert variables["DCGAN_STATE"] == "/state"


def test_a_deployment_of_the_pool_cpu_takes_no_gpu(cluster: Cluster) -> None:
    """What runs without a GPU on one machine runs on any node here."""
    job = cluster.job(cluster.start("dcgan/smoke"))
    image = KUSTOMIZATION["images"][0]
    assert container_of(job)["image"] == f"{image['newName']}:{image['newTag']}"
    assert container_of(job)["resources"]["limits"]["nvidia.com/gpu"] == 0
    assert job["spec"]["template"]["spec"]["nodeSelector"] == {}
    assert job["spec"]["template"]["spec"]["tolerations"] == []


def test_a_cancelled_flow_run_loses_its_job(cluster: Cluster) -> None:
    """The worker deletes the job of a flow run that waits for a node and is cancelled."""
    flow_run = cluster.start("dcgan/train")
    name = _named(cluster.job(flow_run))["metadata"]["name"]
    wait_until("the job's name in Prefect", lambda: cluster.client.read_flow_run(flow_run).infrastructure_pid)
    cluster.client.set_flow_run_state(flow_run, Cancelling())
    wait_until("the deletion", lambda: name in cluster.api.deleted())
    wait_until("the state", lambda: cluster.state(flow_run) == "Cancelled")


def test_a_flow_run_whose_pod_died_has_crashed(cluster: Cluster) -> None:
    """The worker notices at once, without the two minutes of a missing heartbeat; automations.yaml does the rest."""
    flow_run = cluster.start("dcgan/train")
    job = cluster.job(flow_run)
    cluster.client.set_flow_run_state(flow_run, Running(), force=True)
    cluster.api.fail(job)
    wait_until("the crash", lambda: cluster.state(flow_run) in ("Crashed", "AwaitingRetry"))


def test_the_role_allows_what_the_worker_did(cluster: Cluster) -> None:
    """Every request of the worker, in the whole of this module, is one that its role allows, in its namespace."""
    rules = OBJECTS["Role/prefect-worker"]["rules"]
    allowed = {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    asked = [each for each in cluster.api.requests if each.resource and each.resource.plural]
    done = {
        (
            each.resource.group,
            f"{each.resource.plural}/{each.subresource}" if each.subresource else each.resource.plural,
            VERBS.get(each.action.value, each.action.value.lower()),
        )
        for each in asked
    }
    assert {("batch", "jobs", "create"), ("batch", "jobs", "delete"), ("", "pods", "watch")} <= done
    assert done <= allowed
    assert {each.namespace for each in asked} == {KUSTOMIZATION["namespace"]}
    assert list(found(rules, "resourceNames")) == []
