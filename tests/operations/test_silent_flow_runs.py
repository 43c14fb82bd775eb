"""The automations on a real server: what is silent has crashed, what waits has not, what never begins may again."""

import time
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.events import Event, RelatedResource, Resource
from prefect.events.schemas.automations import EventTrigger
from prefect.states import AwaitingRetry, Pending, Running, State

from operations.deploy import apply_automations, create_deployments, create_pools, read_automations
from operations.servers import ServerSettings
from tests.servers import prefect_api
from tests.service_stack import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

WITHIN = timedelta(seconds=12)  # Prefect's minimum is ten
LONGER_SECONDS = 40  # the server looks every few seconds


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncPrefectClient]:
    """Yield a client of a server with the deployments, and with the automations in a hurry."""
    with prefect_api(tmp_path_factory.mktemp("automations")) as (_, url), SyncPrefectClient(url) as client:
        create_pools(client)
        create_deployments(ServerSettings(PREFECT_API_URL=url))
        hurried = read_automations()
        for automation in hurried:
            assert isinstance(automation.trigger, EventTrigger)
            if automation.trigger.posture.name == "Proactive":
                automation.trigger.within = WITHIN
        apply_automations(client, hurried)
        yield client


def test_an_automation_that_was_turned_off_stays_off(client: SyncPrefectClient) -> None:
    """To deploy again updates the automations, and leaves that decision to whoever took it."""
    (again,) = (each for each in read_automations() if "a crashed flow run" in each.name)
    (before,) = client.read_automations_by_name(again.name)
    try:
        client.update_automation(before.id, again.model_copy(update={"enabled": False, "description": "Changed."}))
        apply_automations(client, [again])
        (after,) = client.read_automations_by_name(again.name)
        assert (after.id, after.enabled, after.description) == (before.id, False, again.description)
    finally:
        client.update_automation(before.id, again)


def start(client: SyncPrefectClient, *states: State) -> UUID:
    """Create a flow run of a deployment, and take it through these states."""
    deployment = client.read_deployment_by_name("dcgan/smoke")
    flow_run = client.create_flow_run_from_deployment(deployment.id, state=Pending()).id
    for state in states:
        client.set_flow_run_state(flow_run, state, force=True)
    return flow_run


def beat(client: SyncPrefectClient, flow_run: UUID) -> None:
    """Send the heartbeat of a flow run, as Prefect's engine does."""
    flow = client.read_flow(client.read_flow_run(flow_run).flow_id)
    event = Event(
        id=uuid4(),
        event="prefect.flow-run.heartbeat",
        resource=Resource({"prefect.resource.id": f"prefect.flow-run.{flow_run}"}),
        related=[
            RelatedResource(
                {
                    "prefect.resource.id": f"prefect.flow.{flow.id}",
                    "prefect.resource.role": "flow",
                    "prefect.resource.name": flow.name,
                }
            )
        ],
    )
    client._client.post("/events", json=[event.model_dump(mode="json")]).raise_for_status()


def names(client: SyncPrefectClient, flow_run: UUID) -> list[str]:
    """Return the names of a flow run's states, oldest first."""
    return [state.name or "" for state in client.read_flow_run_states(flow_run)]


def test_what_is_silent_has_crashed_and_is_scheduled_again(client: SyncPrefectClient) -> None:
    """Its last sign of life was a heartbeat."""
    flow_run = start(client, Running())
    beat(client, flow_run)
    wait_until("another start", lambda: names(client, flow_run)[-2:] == ["Crashed", "AwaitingRetry"])


def test_what_waits_has_not_crashed(client: SyncPrefectClient) -> None:
    """A flow run that was asked to stop and waits for another worker sends no heartbeats either."""
    flow_run = start(client, Running())
    beat(client, flow_run)
    client.set_flow_run_state(flow_run, AwaitingRetry(), force=True)
    time.sleep(LONGER_SECONDS)
    assert names(client, flow_run)[-1] == "AwaitingRetry"


def test_what_never_begins_is_scheduled_again(client: SyncPrefectClient) -> None:
    """Its worker died before it was Running."""
    flow_run = start(client)
    wait_until("another start", lambda: names(client, flow_run)[-1] == "AwaitingRetry")
    assert "Crashed" not in names(client, flow_run)
