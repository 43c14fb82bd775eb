"""`make deploy`: create or update the work pools, deployments and automations on the Prefect server that runs.

The deployments are those of prefect.yaml. `dcgan deploy --docker` puts the same ones on the work pool `gpu-docker`,
whose flow runs are containers (docs/docker.md), and `dcgan deploy --kubernetes` on `gpu-k8s`, whose flow runs are
Kubernetes jobs (docs/kubernetes.md).
"""

import json
import os
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import httpx
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectException
from prefect.workers.process import ProcessWorker
from pydantic import TypeAdapter

from dcgan.errors import DcganError
from operations.command import print_line, run_operation
from operations.servers import DOCKER_POOL, POOLS, ServerSettings, prefect_client
from tasks.settings import CHECKOUT
from tasks.workers import KUBERNETES_TYPE, has_worker

PROJECT_FILE = CHECKOUT / "prefect.yaml"
AUTOMATIONS_FILE = CHECKOUT / "automations.yaml"
NOTIFICATIONS_FILE = CHECKOUT / "notifications.yaml"

# Work queues, by pool and name, that give out one flow run at a time; Prefect counts pending and running ones.
# A limit of the deployment would be a lease: Prefect cancels a training run that cannot renew it during an outage.
ONE_AT_A_TIME = (("gpu", "retrain"),)


@dataclass(frozen=True)
class ImagePool:
    """A work pool whose flow runs are containers of this project's image.

    Attributes:
        name: The pool's name.
        type: Prefect's name of the type of its workers.
        template: The file of its base job template.
        without_gpu: Job variables of deployments that need no GPU: those of the pool `cpu` in prefect.yaml.
    """

    name: str
    type: str
    template: Path
    without_gpu: dict[str, Any]

    def read_template(self) -> dict[str, Any]:
        """Return the base job template."""
        template: dict[str, Any] = json.loads(self.template.read_text(encoding="utf-8"))
        return template


DOCKER = ImagePool(
    DOCKER_POOL, "docker", CHECKOUT / "deploy" / "docker" / "base-job-template.json", {"device_requests": []}
)
KUBERNETES_FILES = CHECKOUT / "deploy" / "kubernetes"
KUBERNETES = ImagePool(
    "gpu-k8s",
    KUBERNETES_TYPE,
    KUBERNETES_FILES / "base-job-template.json",
    {"gpus": 0, "node_selector": {}, "tolerations": []},
)


class DeployError(DcganError):
    """Prefect's server does not answer, or refused something."""


def deploy(settings: ServerSettings, notify: str | None = None, pool: ImagePool | None = None) -> list[str]:
    """Create the work pools that do not exist, and create or update every deployment, limit and automation.

    Args:
        settings: Where Prefect's server is.
        notify: A block that sends messages, as TYPE/NAME; None leaves notifications as they are.
        pool: The pool of containers that the deployments are for, which is created or updated; None means the pools
            of processes.

    Returns:
        The names of those pools of which no worker is online.

    Raises:
        DeployError: Prefect's server does not answer, or refused something, or has no such block.
    """
    if not settings.prefect.answers():
        raise DeployError(
            f"Prefect's server at {settings.prefect.url} does not answer: start it with 'make ui', "
            "or set PREFECT_API_URL to the API of a server that runs."
        )
    try:
        with prefect_client(settings) as client:
            notifications = read_notifications(find_block(client, notify)) if notify else []
            if pool:
                create_image_pool(client, pool)
                create_image_deployments(settings, pool)
                limit_queues(client, [(pool.name, queue) for _, queue in ONE_AT_A_TIME])
            else:
                create_pools(client)
                create_deployments(settings)
                limit_queues(client)
            apply_automations(client, [*read_automations(), *notifications])
            return [name for name in ([pool.name] if pool else POOLS) if not has_worker(client, name)]
    except (httpx.HTTPError, PrefectException) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DeployError(f"Prefect's server refused a work pool, limit or automation: {reason}") from None


def create_pools(client: SyncPrefectClient) -> None:
    """Create the work pools that do not exist."""
    template = ProcessWorker.get_default_base_job_template()
    for pool in POOLS:
        with suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=pool, type=ProcessWorker.type, base_job_template=template))


def create_image_pool(client: SyncPrefectClient, pool: ImagePool) -> None:
    """Create or update a pool of containers from its template, for Kubernetes with the image of kustomization.yaml."""
    template = pool.read_template()
    if pool is KUBERNETES:
        kustomization = yaml.safe_load((KUBERNETES_FILES / "kustomization.yaml").read_text(encoding="utf-8"))
        (image,) = kustomization["images"]
        template["variables"]["properties"]["image"]["default"] = f"{image['newName']}:{image['newTag']}"
    created = WorkPoolCreate(name=pool.name, type=pool.type, base_job_template=template)
    client.create_work_pool(created, overwrite=True)


def create_image_deployments(settings: ServerSettings, pool: ImagePool) -> None:
    """Create or update the deployments of prefect.yaml for a pool of containers.

    Raises:
        DeployError: Prefect's command line failed.
    """
    project = yaml.safe_load(PROJECT_FILE.read_text(encoding="utf-8"))
    for deployment in project["deployments"]:
        work_pool = deployment["work_pool"]
        if work_pool["name"] == "cpu":
            work_pool["job_variables"] = pool.without_gpu
        work_pool["name"] = pool.name
    with TemporaryDirectory() as folder:
        written = Path(folder) / PROJECT_FILE.name
        written.write_text(yaml.safe_dump(project), encoding="utf-8")
        create_deployments(settings, written)


def create_deployments(settings: ServerSettings, project: Path = PROJECT_FILE) -> None:
    """Create or update the deployments of a file like prefect.yaml.

    Raises:
        DeployError: Prefect's command line failed.
    """
    done = subprocess.run(  # noqa: S603 - Prefect's own command line
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(project)],
        cwd=CHECKOUT,
        # without the folder of this machine, which Prefect would write into the deployments instead of the variable
        env={name: value for name, value in os.environ.items() if name != "DCGAN_HOME"}
        | {"PREFECT_API_URL": settings.prefect.url},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise DeployError(f"'prefect deploy --all' failed: {said[-1] if said else f'exit code {done.returncode}'}")


def limit_queues(client: SyncPrefectClient, queues: Iterable[tuple[str, str]] = ONE_AT_A_TIME) -> None:
    """Set the limit of the queues that give out one flow run at a time."""
    for pool, name in queues:
        client.update_work_queue(client.read_work_queue_by_name(name, pool).id, concurrency_limit=1)


def find_block(client: SyncPrefectClient, name: str) -> UUID:
    """Return the id of a block that sends messages, by its name as `prefect block ls` shows it: TYPE/NAME.

    Raises:
        DeployError: There is no such block, or it sends no messages.
    """
    kind, _, own = name.partition("/")
    try:
        block = client.read_block_document_by_name(own, kind, include_secrets=False)
    except ObjectNotFound:
        raise DeployError(
            f"Prefect's server has no block {name}; expected one that 'prefect block ls' lists, as slack-webhook/NAME."
        ) from None
    if block.block_schema is None or "notify" not in block.block_schema.capabilities:
        raise DeployError(f"The block {name} sends no messages; expected one that does, as slack-webhook/NAME.")
    return block.id


def read_automations() -> list[AutomationCore]:
    """Return the automations of automations.yaml."""
    return _automations(yaml.safe_load(AUTOMATIONS_FILE.read_text(encoding="utf-8")))


def read_notifications(block: UUID) -> list[AutomationCore]:
    """Return the automations of notifications.yaml, which send their messages through a block."""
    written = yaml.safe_load(NOTIFICATIONS_FILE.read_text(encoding="utf-8"))
    for automation in written:
        for action in automation["actions"]:
            action["block_document_id"] = block
    return _automations(written)


def apply_automations(client: SyncPrefectClient, automations: list[AutomationCore]) -> None:
    """Create or update these automations, identified by their names; one that was turned off stays off."""
    for automation in automations:
        existing = client.read_automations_by_name(automation.name)
        if existing:
            kept = automation.model_copy(update={"enabled": existing[0].enabled})
            client.update_automation(existing[0].id, kept)
        else:
            client.create_automation(automation)


def _automations(written: Any) -> list[AutomationCore]:
    return TypeAdapter(list[AutomationCore]).validate_python(written)


def main(arguments: list[str]) -> int:
    """Deploy to the Prefect server that runs; return the exit code."""
    parser = ArgumentParser(prog="dcgan deploy", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--notify", help="block that tells of failed runs and new champions, as slack-webhook/NAME")
    pools = parser.add_mutually_exclusive_group()
    for pool in (DOCKER, KUBERNETES):
        help_text = f"deploy to the pool {pool.name} (docs/{pool.type}.md)"
        pools.add_argument(f"--{pool.type}", dest="pool", action="store_const", const=pool, help=help_text)
    options = parser.parse_args(arguments)

    def body() -> None:
        settings = ServerSettings.read()
        without_worker = deploy(settings, options.notify, options.pool)
        pools = f"the pool {options.pool.name}" if options.pool else f"the pools {' and '.join(POOLS)}"
        print_line(f"Deployed to {settings.prefect.url}, all of it for {pools}; `prefect deployment ls` lists it.")
        for name in without_worker:
            print_line(f"No worker of the pool {name} is online; its flow runs wait until one is started.")

    return run_operation(body)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
