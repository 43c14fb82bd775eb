"""How the team stack bears many clients: 50 flow runs at once, while 20 clients read what the pages read.

`python -m benchmarks.load` starts `make stack` on an empty state folder, measures how long that and a first training
run take, and then asks its servers. The 50 flow runs pass through the states of a real one, each set by a client as its
engine would; no process is started for them, so that the servers are measured and not Python's imports.
"""

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from benchmarks.tables import publish
from tests.service_stack import ServiceStack, read_until_ready, start_stack, with_passwords

FLOW_RUNS, CLIENTS = 50, 20
SECONDS = 30.0
REQUEST_SECONDS = 60.0
STATES = ("PENDING", "RUNNING", "COMPLETED")


@dataclass
class Answers:
    """What clients got from one server.

    Attributes:
        seconds: Seconds that each answer took.
        statuses: How often each HTTP status came; `failed` for a request without an answer.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    async def ask(self, client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> Any:
        """Send a request, count its answer, and return that; None where there is none."""
        began, status, answer = time.monotonic(), "failed", None
        try:
            response = await client.post(path, json=body)
            status, answer = str(response.status_code), response.json()
        except httpx.HTTPError:
            pass
        self.statuses[status] += 1
        self.seconds.append(time.monotonic() - began)
        return answer

    def summary(self) -> dict[str, Any]:
        """Return the number of requests, their statuses, and the times that half and 95 % of them took at most."""
        ordered = sorted(self.seconds)
        return {
            "requests": len(ordered),
            "statuses": dict(self.statuses),
            "median_seconds": round(ordered[len(ordered) // 2], 3),
            "p95_seconds": round(ordered[int(len(ordered) * 0.95)], 3),
            "slowest_seconds": round(ordered[-1], 3),
        }


async def measure(stack: ServiceStack, flow_runs: int = FLOW_RUNS, seconds: float = SECONDS) -> dict[str, Any]:
    """Queue flow runs at once while clients read for some seconds, and return what came of both."""
    environment = stack.environment
    user, _, password = environment["PREFECT_API_AUTH_STRING"].partition(":")
    mlflow_login = (environment["MLFLOW_TRACKING_USERNAME"], environment["MLFLOW_TRACKING_PASSWORD"])
    written, prefect_read, mlflow_read = Answers(), Answers(), Answers()
    tag, stop = f"load-{uuid4()}", asyncio.Event()
    async with (
        httpx.AsyncClient(base_url=stack.prefect, auth=(user, password), timeout=REQUEST_SECONDS) as prefect,
        httpx.AsyncClient(base_url=stack.mlflow, auth=mlflow_login, timeout=REQUEST_SECONDS) as mlflow,
    ):
        flow = (await prefect.post("/flows/", json={"name": "load"})).raise_for_status().json()["id"]

        async def run() -> None:
            body = {"flow_id": flow, "tags": [tag], "state": {"type": "SCHEDULED"}}
            flow_run = await written.ask(prefect, "/flow_runs/", body)
            for state in STATES:
                await written.ask(prefect, f"/flow_runs/{flow_run['id']}/set_state", {"state": {"type": state}})

        async def read(number: int) -> None:
            while not stop.is_set():
                if number % 2:
                    await mlflow_read.ask(mlflow, "/api/2.0/mlflow/runs/search", {"experiment_ids": ["0", "1"]})
                else:
                    await prefect_read.ask(prefect, "/flow_runs/filter", {"limit": 50, "sort": "START_TIME_DESC"})

        readers = [asyncio.create_task(read(number)) for number in range(CLIENTS)]
        began = time.monotonic()
        await asyncio.gather(*(run() for _ in range(flow_runs)), return_exceptions=True)
        flow_run_seconds = time.monotonic() - began
        await asyncio.sleep(max(0.0, seconds - flow_run_seconds))
        stop.set()
        await asyncio.gather(*readers)
        all_seconds = time.monotonic() - began
        wanted = {"flow_runs": {"tags": {"all_": [tag]}}, "limit": 200}
        found = (await prefect.post("/flow_runs/filter", json=wanted)).raise_for_status().json()
    return {
        "seconds": round(all_seconds, 1),
        "flow_runs": flow_runs,
        "flow_runs_seconds": round(flow_run_seconds, 1),
        "flow_runs_by_state": dict(Counter(each["state_type"] for each in found)),
        "clients": CLIENTS,
        "written": written.summary(),
        "prefect": prefect_read.summary(),
        "mlflow": mlflow_read.summary(),
    }


def main() -> None:
    """Measure, and publish the results."""
    argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="dcgan-load-") as folder:
        began = time.monotonic()
        stack = start_stack(Path(folder) / "state", program="operations.stack")
        try:
            read_until_ready(stack)
            ready = time.monotonic() - began
            stack = with_passwords(stack)
            stack.deploy()
            stack.run_prefect(
                "deployment", "run", "dcgan/smoke", "--param", "source=bundled", "--watch"
            ).check_returncode()
            trained = time.monotonic() - began
            results = asyncio.run(measure(stack))
        finally:
            stack.process.terminate()
            stack.process.communicate()
    publish("load", {"ready_seconds": round(ready), "smoke_seconds": round(trained), **results})


if __name__ == "__main__":
    main()
