"""Many clients at once: no answer is an error, and no flow run is lost."""

import asyncio

import pytest

from benchmarks.load import CLIENTS, FLOW_RUNS, measure
from tests.service_stack import ServiceStack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]


def test_many_clients_lose_nothing(team: ServiceStack) -> None:
    """Fifty flow runs are queued and completed while twenty clients read; every request is answered by 200 or 201."""
    results = asyncio.run(measure(team, seconds=5))
    assert results["flow_runs_by_state"] == {"COMPLETED": FLOW_RUNS}
    assert results["written"]["requests"] == 4 * FLOW_RUNS
    assert sum(results["written"]["statuses"].values()) == results["written"]["statuses"].get("201")
    for server in ("prefect", "mlflow"):
        assert results[server]["statuses"] == {"200": results[server]["requests"]}
        assert results[server]["requests"] >= CLIENTS / 2
