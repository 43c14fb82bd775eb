"""What a training run costs the team stack in rows, bytes and requests: `python -m benchmarks.records`.

Three training runs of `fast` on few images go through `make stack`: one short, one with more epochs, one with longer
epochs. What they add to the servers' own counters is that of a run, of each epoch and of each minute, for which three
equations are solved; what the stack does by itself in a minute is measured before and taken off. Counts need no quiet
machine.
"""

import argparse
import json
import re
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import boto3
import httpx
import numpy as np
import psycopg2
from botocore.config import Config
from rich.console import Console
from sqlalchemy.engine import make_url

from benchmarks.tables import publish
from tests.service_stack import ServiceStack, read_until_ready, start_stack, with_passwords
from tests.stack.processes import process_of

# epochs and images of each training run
RUNS = ((2, 2048), (8, 2048), (2, 24_576))
IDLE_SECONDS = 60
SETTLE_SECONDS = 20  # events reach Prefect's database in batches
REQUESTS = re.compile(r"^mlflow_http_request_total\{.*\} ([\d.e+]+)$", re.MULTILINE)
ROWS = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables"
COMMITS = "SELECT xact_commit, pg_database_size(datname) FROM pg_stat_database WHERE datname = current_database()"
BUCKET = "mlflow"

Counts = dict[str, float]


def count(stack: ServiceStack) -> Counts:
    """Return the servers' counters since they began."""
    found: Counts = {}
    uri = make_url(process_of(stack, "mlflow").environ()["MLFLOW_BACKEND_STORE_URI"])
    for database in ("prefect", "mlflow"):
        address = uri.set(database=database).render_as_string(hide_password=False)
        with psycopg2.connect(address) as connection, connection.cursor() as cursor:
            cursor.execute(ROWS)
            found[f"{database}_rows"] = float(cursor.fetchone()[0])
            cursor.execute(COMMITS)
            found[f"{database}_transactions"], found[f"{database}_bytes"] = map(float, cursor.fetchone())
    environment = stack.environment
    login = (environment["MLFLOW_TRACKING_USERNAME"], environment["MLFLOW_TRACKING_PASSWORD"])
    metrics = httpx.get(f"{stack.mlflow}/metrics", auth=login).raise_for_status().text
    found["mlflow_requests"] = sum(float(number) for number in REQUESTS.findall(metrics))
    return found


def artifacts(stack: ServiceStack, run_id: str) -> dict[str, dict[str, int]]:
    """Return the number and bytes of a run's objects in the bucket, by the folder or checkpoint that they are in."""
    environment = process_of(stack, "mlflow").environ()
    client = boto3.client(
        "s3",
        endpoint_url=environment["MLFLOW_S3_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
        config=Config(s3={"addressing_style": "path"}),
    )
    objects, sizes = Counter[str](), Counter[str]()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for item in page.get("Contents", []):
            folders = item["Key"].split("/")
            if run_id in folders:
                _, what, *rest = folders[folders.index(run_id) + 1 :]
                name = f"{what}/{rest[0]}" if what == "checkpoints" else what
                objects[name] += 1
                sizes[name] += item["Size"]
    return {name: {"objects": objects[name], "bytes": sizes[name]} for name in sorted(objects)}


def train(stack: ServiceStack, epochs: int, images: int) -> tuple[float, str]:
    """Train on the stack's own worker; return the minutes of the flow run, and the id of the MLflow run."""
    parameters = {
        "epochs": epochs,
        "hyperparameters": {"max_images": images, "name": f"epochs{epochs}-images{images}"},
        "source": "bundled",
        "promotion": "manual",
    }
    done = stack.run_prefect(
        *("deployment", "run", "dcgan/train", "--watch"),
        *(part for name, value in parameters.items() for part in ("--param", f"{name}={json.dumps(value)}")),
        seconds=900,
    )
    done.check_returncode()
    ended = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}, "sort": "END_TIME_DESC", "limit": 1}
    (newest,) = stack.ask("flow_runs/filter", ended)
    environment = stack.environment
    login = (environment["MLFLOW_TRACKING_USERNAME"], environment["MLFLOW_TRACKING_PASSWORD"])
    body = {"experiment_ids": ["1"], "max_results": 1, "order_by": ["attributes.start_time DESC"]}
    runs = httpx.post(f"{stack.mlflow}/api/2.0/mlflow/runs/search", json=body, auth=login).raise_for_status().json()
    return newest["total_run_time"] / 60, runs["runs"][0]["info"]["run_id"]


def measure(stack: ServiceStack, console: Console) -> dict[str, Any]:
    """Return the counts of a training run, of an epoch, of a minute of training and of a minute without it."""
    train(stack, 1, 512)  # experiment, registered model and the data are there afterwards
    time.sleep(SETTLE_SECONDS)
    before, began = count(stack), time.monotonic()
    time.sleep(IDLE_SECONDS)
    after = count(stack)
    minutes = (time.monotonic() - began) / 60
    idle = {name: (after[name] - before[name]) / minutes for name in after}
    rows, differences, run_id = [], [], ""
    for epochs, images in RUNS:
        before, began = count(stack), time.monotonic()
        with console.status(f"Training {epochs} epochs on {images} images"):
            training_minutes, trained = train(stack, epochs, images)
        time.sleep(SETTLE_SECONDS)
        after, minutes = count(stack), (time.monotonic() - began) / 60
        rows.append((1, epochs, training_minutes))
        differences.append([after[name] - before[name] - idle[name] * minutes for name in after])
        run_id = trained if epochs == max(each for each, _ in RUNS) else run_id
    of_run, of_epoch, of_minute = np.linalg.solve(np.array(rows), np.array(differences))
    return {
        "runs": [{"epochs": epochs, "training_minutes": round(minutes, 2)} for _, epochs, minutes in rows],
        "counts": {
            name: {
                "run": round(of_run[index], 1),
                "epoch": round(of_epoch[index], 1),
                "minute": round(of_minute[index], 1),
                "idle_minute": round(idle[name], 1),
            }
            for index, name in enumerate(after)
        },
        "artifacts": artifacts(stack, run_id),
    }


def main() -> None:
    """Measure, and publish the results."""
    argparse.ArgumentParser(prog="python -m benchmarks.records", description=__doc__).parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="dcgan-records-") as folder:
        stack = start_stack(Path(folder) / "state", program="operations.stack")
        try:
            read_until_ready(stack)
            stack = with_passwords(stack)
            stack.deploy()
            results = measure(stack, console)
        finally:
            stack.process.terminate()
            stack.process.communicate()
    publish("records", results)


if __name__ == "__main__":
    main()
