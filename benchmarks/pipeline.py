"""How long the pipeline takes, stage by stage, as its user waits for it. Run it as `python -m benchmarks pipeline`.

Each training run is a process of its own with an empty state folder, on the bundled MNIST.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from benchmarks.tables import publish
from benchmarks.worker import CHECKOUT
from dcgan.data.parquet import read_parquet

EPOCHS = {"fast": 2, "classic": 2}
ROUNDS = 3
FLOW_BEGAN = re.compile(r"^(\d\d):(\d\d):(\d\d\.\d+) .* - Beginning flow run", re.MULTILINE)


def main() -> None:
    """Measure, and publish the results."""
    with tempfile.TemporaryDirectory(prefix="dcgan-bench-") as temporary, Console().status("Training") as status:
        root = Path(temporary)
        smoke = [train("smoke", root / f"smoke-{number}") for number in range(ROUNDS)]
        status.update("Reading Parquet")
        (prepared,) = (root / "smoke-0" / "data" / "prepared").glob("*/train.parquet")
        reading = [_read_seconds(prepared) for _ in range(ROUNDS)]
        runs = {}
        for recipe, count in EPOCHS.items():
            status.update(f"Training {count} epochs of {recipe}")
            runs[recipe] = train(recipe, root / recipe, "--epochs", str(count))
    publish(
        "pipeline",
        {
            "smoke_seconds": median(run["wall_seconds"] for run in smoke),
            "smoke_seconds_to_first_step": median(run["seconds_to_first_step"] for run in smoke),
            "starting_stages": _medians([starting_stages(run) for run in smoke]),
            "read_parquet_seconds": median(reading),
            "recipes": {recipe: _summarize_epochs(run["records"]) for recipe, run in runs.items()},
        },
    )


def train(
    recipe: str, state: Path, *arguments: str, source: str = "bundled", summary: Path | None = None
) -> dict[str, Any]:
    """Run the whole pipeline in a process of its own.

    Args:
        recipe: Name of the recipe.
        state: State folder.
        arguments: Further flags.
        source: Source of the digits.
        summary: File for the summary; by default beside the state folder.

    Returns:
        The summary, with the command's wall time, when its flow run and its first step began, the precision, and its
        epochs' records.
    """
    summary = summary or state.with_suffix(".json")
    flags = ("--recipe", recipe, "--source", source, "--summary", str(summary))
    began = time.time()
    done = subprocess.run(
        [sys.executable, "-m", "flows.train", *flags, *arguments],
        cwd=CHECKOUT,
        env={**os.environ, "DCGAN_STATE": str(state)},
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wall_seconds = time.time() - began
    result = json.loads(summary.read_text())
    checkpoint = state / "runs" / result["run_id"] / "states" / f"epoch-{result['epochs']:06d}" / "checkpoint.json"
    metadata = json.loads(checkpoint.read_text())
    records = metadata["records"]
    first = records[0]
    return {
        **result,
        "wall_seconds": wall_seconds,
        "seconds_to_flow": flow_began(done.stdout, began),
        "seconds_to_first_step": first["finished_at"] - first["metrics"]["epoch_seconds"] - began,
        "precision": metadata["configuration"]["recipe"]["precision"],
        "records": records,
    }


def flow_began(log: str, began: float) -> float:
    """Return how many seconds after `began`, in Unix time, a command's flow run began, by its log's times of day."""
    hours, minutes, seconds = map(float, FLOW_BEGAN.search(log).groups())
    start = time.localtime(began)
    before = 3600 * start.tm_hour + 60 * start.tm_min + start.tm_sec + began % 1
    return (3600 * hours + 60 * minutes + seconds - before) % 86_400


def starting_stages(run: dict[str, Any]) -> dict[str, float]:
    """Return the seconds of each stage before the first step, and those of compiling it."""
    before, data = run["seconds_to_flow"], run["seconds"]["download"] + run["seconds"]["prepare"]
    return {
        "imports_and_prefect": before,
        "data": data,
        "mlflow_tensorflow_and_networks": run["seconds_to_first_step"] - before - data,
        "compiling": run["records"][0]["metrics"]["overhead_seconds"],
    }


def _medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: median(row[name] for row in rows) for name in rows[0]}


def _read_seconds(path: Path) -> float:
    began = time.perf_counter()
    read_parquet(path)
    return time.perf_counter() - began


def _summarize_epochs(records: list[dict[str, Any]]) -> dict[str, float]:
    """Return the medians over the epochs after the first, which compiles.

    The overhead of an epoch is its evaluation, and the recording of the epoch before: samples, state, MLflow.
    """
    epochs = [record["metrics"] for record in records[1:]]
    names = ("images_per_second", "epoch_seconds", "overhead_seconds", "evaluation_seconds", "peak_memory_mb")
    steps = [each["epoch_seconds"] - each["overhead_seconds"] for each in epochs]
    recording = [each["overhead_seconds"] - each["evaluation_seconds"] for each in epochs]
    evaluation = [each["evaluation_seconds"] for each in epochs]
    return {
        **{name: median(each[name] for each in epochs) for name in names},
        "recording_fraction_of_steps": median(some / all_ for some, all_ in zip(recording, steps, strict=True)),
        "evaluation_fraction_of_steps": median(some / all_ for some, all_ in zip(evaluation, steps, strict=True)),
    }
