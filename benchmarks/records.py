"""What a training run writes into the databases and the bucket of the team stack, for docs/scaling.md.

`python -m benchmarks.records` starts `make stack` on an empty state folder and trains twice through its workers, a few
epochs and more of them. The difference is what an epoch costs, with what its time costs (heartbeats, the lease, the
machine's load); what is left is the rest of a run.
"""

import argparse
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
from mlflow import MlflowClient
from mlflow.entities import Run

from benchmarks.tables import publish
from tests.service_stack import ServiceStack, read_until_ready, start_stack, with_passwords

FEW, MANY = 2, 6  # epochs
IMAGES = 4096  # of an epoch
IDLE_SECONDS = 60
SETTLE_SECONDS = 15  # until PostgreSQL's counters and Prefect's events are written
COUNTERS = """
SELECT (SELECT sum(n_tup_ins) FROM pg_stat_user_tables) AS rows_added,
       (SELECT sum(n_tup_upd) FROM pg_stat_user_tables) AS rows_changed,
       (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()) AS transactions,
       pg_database_size(current_database()) AS bytes
"""
REQUESTS = re.compile(r"^\w*http_request_total\{[^}]*\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Cost:
    """Counts by name, such as `mlflow rows_added`."""

    counts: dict[str, float]

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost({name: value - other.counts[name] for name, value in self.counts.items()})

    def __mul__(self, factor: float) -> "Cost":
        return Cost({name: value * factor for name, value in self.counts.items()})

    def rounded(self) -> dict[str, float]:
        """Return the counts with one digit after the point."""
        return {name: round(value, 1) for name, value in self.counts.items()}


class Meter:
    """Reads the counters of a running team stack."""

    def __init__(self, stack: ServiceStack) -> None:
        """Connect to both databases as their owner."""
        passwords = json.loads((stack.state / "stack" / "passwords.json").read_text(encoding="utf-8"))
        owner = sa.make_url(stack.environment["DCGAN_SWEEPS_URI"]).set(username="dcgan", password=passwords["postgres"])
        self._engines = {name: sa.create_engine(owner.set(database=name)) for name in ("mlflow", "prefect")}
        self._login = (stack.environment["MLFLOW_TRACKING_USERNAME"], stack.environment["MLFLOW_TRACKING_PASSWORD"])
        self._mlflow = stack.mlflow

    def read(self) -> Cost:
        """Return what has been counted since the servers started."""
        time.sleep(SETTLE_SECONDS)
        counts: dict[str, float] = {}
        for name, engine in self._engines.items():
            with engine.connect() as connection:
                row = connection.execute(sa.text(COUNTERS)).mappings().one()
            counts |= {f"{name} {counter}": float(value) for counter, value in row.items()}
        text = httpx.get(f"{self._mlflow}/metrics", auth=self._login, timeout=60).raise_for_status().text
        counts["mlflow requests"] = sum(float(value) for value in REQUESTS.findall(text))
        return Cost(counts)


def train(stack: ServiceStack, epochs: int, seed: int) -> None:
    """Train through a worker."""
    changes = json.dumps({"max_images": IMAGES})
    given = (f"epochs={epochs}", f"seed={seed}", "source=bundled", f"hyperparameters={changes}", "promotion=manual")
    options = [part for parameter in given for part in ("--param", parameter)]
    stack.run_prefect("deployment", "run", "dcgan/train", *options, "--watch", seconds=1800).check_returncode()


def last_run(stack: ServiceStack) -> Run:
    """Return the MLflow run that began last."""
    (run, *_) = MlflowClient(stack.mlflow).search_runs(["1"], order_by=["attributes.start_time DESC"])
    return run


def epoch_seconds(stack: ServiceStack) -> float:
    """Return the mean seconds from one epoch of the last run to the next."""
    run = last_run(stack)
    history = MlflowClient(stack.mlflow).get_metric_history(run.info.run_id, "train/generator_loss")
    times = sorted(metric.timestamp for metric in history)
    return (times[-1] - times[0]) / 1000 / (len(times) - 1)


def artifacts(stack: ServiceStack) -> Iterator[tuple[str, int]]:
    """Yield the path and the bytes of each artifact of the last run, its model's too."""
    client, run, folders = MlflowClient(stack.mlflow), last_run(stack), [""]
    while folders:
        for each in client.list_artifacts(run.info.run_id, folders.pop()):
            if each.is_dir:
                folders.append(each.path)
            else:
                yield each.path, each.file_size or 0


def measure(stack: ServiceStack) -> dict[str, Any]:
    """Return what an epoch, a minute and the rest of a run cost, beyond what idle servers do."""
    meter = Meter(stack)
    train(stack, epochs=1, seed=0)  # prepares the data and creates the registered model
    began, before = time.monotonic(), meter.read()
    time.sleep(IDLE_SECONDS)
    idle_minute = (meter.read() - before) * (60 / (time.monotonic() - began))

    def cost_of(epochs: int) -> Cost:
        start, first = time.monotonic(), meter.read()
        train(stack, epochs, seed=epochs)
        return meter.read() - first - idle_minute * ((time.monotonic() - start) / 60)

    few = cost_of(FEW)
    few_seconds, files = epoch_seconds(stack), dict(artifacts(stack))
    epoch = (cost_of(MANY) - few) * (1 / (MANY - FEW))
    return {
        "epochs": FEW,
        "epoch_seconds": round((few_seconds + epoch_seconds(stack)) / 2, 1),
        "idle_minute": idle_minute.rounded(),
        "epoch": epoch.rounded(),
        "rest_of_run": (few - epoch * FEW).rounded(),
        "artifacts": {kind: {"objects": len(sizes), "bytes": sum(sizes)} for kind, sizes in _by_folder(files).items()},
    }


def main() -> None:
    """Measure, and publish the results."""
    argparse.ArgumentParser(prog="python -m benchmarks.records", description=__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="dcgan-records-") as folder:
        stack = start_stack(Path(folder) / "state", program="operations.stack")
        try:
            read_until_ready(stack)
            stack = with_passwords(stack)
            os.environ |= stack.environment  # MLflow's client reads the passwords there
            stack.deploy()
            results = measure(stack)
        finally:
            stack.process.terminate()
            stack.process.communicate()
    publish("records", results)


def _by_folder(files: dict[str, int]) -> dict[str, list[int]]:
    folders: dict[str, list[int]] = {}
    for path, size in files.items():
        folders.setdefault(path.partition("/")[0], []).append(size)
    return dict(sorted(folders.items()))


if __name__ == "__main__":
    main()
