"""What Prefect's server does with flow runs of deployments: one retraining at a time, and one that was not dead."""

from datetime import UTC, datetime

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.states import AwaitingRetry, Completed, Crashed, Pending, Running, Scheduled

from operations.deploy import ONE_AT_A_TIME, limit_queues


def offered(client: SyncPrefectClient, pool: str) -> list[str]:
    """Return the ids of the flow runs that a worker would be given now."""
    found = client.get_scheduled_flow_runs_for_work_pool(pool, scheduled_before=datetime.now(UTC))
    return [str(each.flow_run.id) for each in found]


@pytest.mark.usefixtures("prefect_server")
def test_one_retraining_at_a_time():
    """Of two that are due a worker gets one, and the other when the first has ended, also by a crash."""
    ((pool, queue),) = ONE_AT_A_TIME
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
        deployment = client.create_deployment(
            client.create_flow_from_name("dcgan"), "retrain", work_pool_name=pool, work_queue_name=queue
        )
        limit_queues(client)
        due = {str(client.create_flow_run_from_deployment(deployment, state=Scheduled()).id) for _ in range(2)}
        (first,) = offered(client, pool)
        for now in (Pending(), Running()):
            client.set_flow_run_state(first, now)
            assert offered(client, pool) == []
        assert client.read_flow_run(first).state.state_details.deployment_concurrency_lease_id is None
        client.set_flow_run_state(first, Crashed())
        assert offered(client, pool) == list(due - {first})


@pytest.mark.usefixtures("prefect_server")
def test_a_flow_run_that_was_declared_dead_may_complete():
    """Where no worker was free to start it again, its own end counts, and no worker is offered it any more."""
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="only", type="process"))
        deployment = client.create_deployment(client.create_flow_from_name("dcgan"), "only", work_pool_name="only")
        flow_run = client.create_flow_run_from_deployment(deployment).id
        for state in (Pending(), Running(), Crashed(), AwaitingRetry()):
            client.set_flow_run_state(flow_run, state)
        assert offered(client, "only") == [str(flow_run)]
        client.set_flow_run_state(flow_run, Completed())
        assert client.read_flow_run(flow_run).state_name == "Completed"
        assert offered(client, "only") == []
