"""How the team stack bears many clients: 50 flow runs at once, while 20 clients read what the pages read.

Run `make stack`, then in another shell, after the line that it prints, `python -m benchmarks.load`. The flow runs pass
through the states of a real one, each set by a client as its engine would; no process is started for them, so that the
servers are measured and not Python's imports.
"""

import argparse
import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
from prefect import flow, get_client
from prefect.states import Completed, Pending, Running

from benchmarks.tables import publish
from operations.servers import ServerSettings

FLOW_RUNS, CLIENTS = 50, 20
SECONDS = 20.0
REQUEST_SECONDS = 60.0


@dataclass
class Reading:
    """What the reading clients saw of one server.

    Attributes:
        seconds: Seconds of each answer.
        statuses: How often each HTTP status came; `failed` for a request without an answer.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    def summary(self) -> dict[str, Any]:
        """Return the number of requests, their statuses, and the times that half and 95 % of them took at most."""
        ordered = sorted(self.seconds)
        return {
            "requests": sum(self.statuses.values()),
            "statuses": dict(self.statuses),
            "median_seconds": round(ordered[len(ordered) // 2], 3),
            "p95_seconds": round(ordered[int(len(ordered) * 0.95)], 3),
            "slowest_seconds": round(ordered[-1], 3),
        }


@flow(name="load")
def nothing() -> None:
    """Do nothing: only its states count."""


async def run_flow(tag: str) -> None:
    """Create a flow run, and set the states that its worker and its engine would set."""
    async with get_client() as client:
        flow_run = await client.create_flow_run(nothing, tags=[tag])
        for state in (Pending(), Running(), Completed()):
            await client.set_flow_run_state(flow_run.id, state)


async def read(
    reading: Reading, client: httpx.AsyncClient, path: str, body: dict[str, Any], stop: asyncio.Event
) -> None:
    """Ask a server the same question again and again."""
    while not stop.is_set():
        began = time.monotonic()
        try:
            answer = await client.post(path, json=body)
            reading.statuses[str(answer.status_code)] += 1
        except httpx.HTTPError:
            reading.statuses["failed"] += 1
        reading.seconds.append(time.monotonic() - began)


async def measure(flow_runs: int = FLOW_RUNS, clients: int = CLIENTS, seconds: float = SECONDS) -> dict[str, Any]:
    """Queue flow runs at once while clients read for some seconds, and return what came of both."""
    settings = ServerSettings()
    user, _, password = (
        settings.prefect_auth.get_secret_value().partition(":") if settings.prefect_auth else ("", "", "")
    )
    tag = f"load-{uuid4()}"
    prefect, mlflow, stop = Reading(), Reading(), asyncio.Event()
    async with (
        httpx.AsyncClient(base_url=settings.prefect.url, auth=(user, password), timeout=REQUEST_SECONDS) as to_prefect,
        httpx.AsyncClient(
            base_url=settings.mlflow.url, auth=settings.mlflow_auth, timeout=REQUEST_SECONDS
        ) as to_mlflow,
    ):
        questions = (
            (prefect, to_prefect, "/flow_runs/filter", {"limit": 50, "sort": "START_TIME_DESC"}),
            (mlflow, to_mlflow, "/api/2.0/mlflow/runs/search", {"experiment_ids": ["0", "1"], "max_results": 50}),
        )
        readers = [asyncio.create_task(read(*questions[number % 2], stop)) for number in range(clients)]
        began = time.monotonic()
        ended = await asyncio.gather(*(run_flow(tag) for _ in range(flow_runs)), return_exceptions=True)
        flow_run_seconds = time.monotonic() - began
        await asyncio.sleep(max(0.0, seconds - flow_run_seconds))
        stop.set()
        await asyncio.gather(*readers)
        found = await to_prefect.post("/flow_runs/filter", json={"flow_runs": {"tags": {"all_": [tag]}}, "limit": 200})
    states = Counter(each["state_type"] for each in found.raise_for_status().json())
    return {
        "flow_runs": flow_runs,
        "flow_runs_seconds": round(flow_run_seconds, 1),
        "flow_runs_by_state": dict(states),
        "flow_runs_that_failed": [repr(each) for each in ended if isinstance(each, BaseException)],
        "clients": clients,
        "prefect": prefect.summary(),
        "mlflow": mlflow.summary(),
    }


def main() -> None:
    """Measure, and publish the results."""
    argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__).parse_args()
    publish("load", asyncio.run(measure()))


if __name__ == "__main__":
    main()
