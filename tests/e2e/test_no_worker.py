"""Nobody takes a flow run, because no worker of its pool runs: whoever waits for it gets a message."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.automations import AutomationCore, EventTrigger

from operations.deploy import apply_automations, find_block, read_notifications
from tests.servers import prefect_api, read_until
from tests.service_stack import CHECKOUT, wait_until
from tests.web import Web, respond

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SAVE_WEBHOOK = """
import sys
from prefect.blocks.notifications import CustomWebhookNotificationBlock
CustomWebhookNotificationBlock(
    name="dcgan", url=sys.argv[1], json_data={"subject": "{{subject}}", "body": "{{body}}"}
).save("dcgan")
"""


@dataclass(frozen=True)
class Deployed:
    """A Prefect server without workers, and what `dcgan deploy` has said when it deployed to it."""

    url: str
    environment: dict[str, str]
    said: str


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Yield such a server, which finds after a second that a flow run is late."""
    late = {
        "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "1",
        "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "1",
    }
    with prefect_api(tmp_path_factory.mktemp("prefect"), **late) as (_, url):
        environment = {**os.environ, "PREFECT_API_URL": url}
        command = [sys.executable, "-m", "operations.deploy"]
        done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True)
        yield Deployed(url, environment, done.stdout)


def test_deploying_names_the_pools_without_a_worker(deployed: Deployed) -> None:
    """`dcgan deploy` says it of both pools."""
    assert deployed.said.splitlines()[1:] == [
        f"No worker of the pool {pool} is online; its flow runs wait until one is started." for pool in ("gpu", "cpu")
    ]


def test_a_run_that_waits_is_one_message(deployed: Deployed, web: Web) -> None:
    """The message names the flow run and the pool."""
    web.answer("/hook", respond(b"ok"))
    command = [sys.executable, "-c", SAVE_WEBHOOK, f"{web.address}/hook"]
    subprocess.run(command, cwd=CHECKOUT, env=deployed.environment, check=True)
    with SyncPrefectClient(deployed.url) as client:
        automations = read_notifications(find_block(client, "custom-webhook/dcgan"))
        apply_automations(client, [_within_seconds(each) for each in automations if "waits" in each.name])
        deployment = client.read_deployment_by_name("dcgan/smoke")
        flow_run = client.create_flow_run_from_deployment(deployment.id, name="patient")
        wait_until("the message", lambda: web.posted)
        (message,) = web.posted
        assert b"dcgan: patient waits for a worker" in message
        assert b"No worker of the work pool cpu has taken it for ten minutes" in message
        assert client.read_flow_run(flow_run.id).state_name == "Late"


def test_a_sweep_says_that_its_trials_wait(deployed: Deployed, tmp_path: Path) -> None:
    """A sweep whose trials nobody takes warns of it before it waits for them."""
    command = [sys.executable, "-m", "flows.cli", "sweep", "--recipe=smoke", "--seeds=1,2", "--deployment=dcgan/train"]
    environment = {**deployed.environment, "DCGAN_STATE": str(tmp_path / "state")}
    process = subprocess.Popen(command, cwd=CHECKOUT, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        read_until(process, "No worker of the work pool gpu is online; the trials wait until one is started.")
    finally:
        process.kill()
        process.communicate()


def _within_seconds(automation: AutomationCore) -> AutomationCore:
    """Return the automation with a patience of seconds instead of minutes."""
    assert isinstance(automation.trigger, EventTrigger)
    trigger = automation.trigger.model_copy(update={"within": timedelta(seconds=10)})
    return automation.model_copy(update={"trigger": trigger})
