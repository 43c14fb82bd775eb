"""How good the generators of the recipes are, and how soon: `python -m benchmarks quality`.

Each training run is the whole pipeline, all in one store, so each generator is evaluated beside the champion of the
runs before it. That takes an hour and a half. A benchmark that was stopped resumes when it is started again; remove
.state/benchmarks/quality to measure again from the beginning.
"""

import json
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from rich.console import Console

from benchmarks.pipeline import train
from benchmarks.tables import ROLES, publish, read_results
from benchmarks.worker import CHECKOUT
from dcgan.evaluation.gate import Evaluation
from dcgan.evaluation.report import Baselines, QualityReport
from dcgan.recipe import CLASSIC
from tracking.tags import REPORT_JSON

STATE = CHECKOUT / ".state" / "benchmarks" / "quality"
RUNS = (("fast", 0), ("fast", 1), ("fast", 2), ("classic", 0))
PORT = "Keras, as installed"
MNIST_IMAGES = 60_000
DISTANCE = "frechet_distance"


def main() -> None:
    """Train, and publish the results."""
    STATE.mkdir(parents=True, exist_ok=True)
    runs = {}
    for recipe, seed in RUNS:
        name = f"{recipe}, seed {seed}"
        with Console().status(f"Training {name}"):
            runs[name] = summarize(run_once(recipe, seed, STATE))
    publish("quality", {"training_runs": runs, "comparison": compare(runs, port_seconds(read_results("step")))})


def run_once(recipe: str, seed: int, state: Path) -> dict[str, Any]:
    """Return the results of a training run, which may have ended before this program began."""
    ended = state / f"{recipe}-{seed}.run.json"
    if not ended.exists():
        run = train(recipe, state, "--seed", str(seed), summary=state / f"{recipe}-{seed}.json")
        ended.write_text(json.dumps(run, indent=2), encoding="utf-8")
    return json.loads(ended.read_text(encoding="utf-8"))


def summarize(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's times, its distance after each epoch, both classifiers' reports and baselines, and the verdict."""
    metrics = [record["metrics"] for record in run["records"]]
    client = MlflowClient(run["tracking_uri"])
    path = Path(client.download_artifacts(run["run_id"], REPORT_JSON))
    evaluation = Evaluation.model_validate_json(path.read_bytes())
    return {
        "recipe": run["recipe"],
        "seed": run["seed"],
        "epochs": run["epochs"],
        "training_seconds": round(sum(each["epoch_seconds"] for each in metrics), 1),
        "epoch_seconds": [round(each["epoch_seconds"], 1) for each in metrics],
        DISTANCE: [round(each[DISTANCE], 2) for each in metrics],
        "selection": _reports(evaluation.candidate.selection, evaluation.selection_baselines),
        "held_out": _reports(evaluation.candidate.held_out, evaluation.held_out_baselines),
        "verdict": evaluation.verdict.reason if evaluation.verdict else None,
    }


def port_seconds(step: Mapping[str, Any]) -> float:
    """Return how long the plain port would train for the epochs of `classic`, by the results of the step benchmark."""
    speed = step["recipes"]["classic"]["variants"][PORT]["images_per_second"]
    steps = CLASSIC.epochs * (MNIST_IMAGES // CLASSIC.batch_size)
    return round(steps * CLASSIC.batch_size / speed, 1)


def compare(runs: Mapping[str, dict[str, Any]], port: float) -> dict[str, Any]:
    """Return when each run of `fast` passed the best epoch of `classic`, and how its end compares with classic's.

    Args:
        runs: Summaries by name, that of `classic` last.
        port: Seconds that the plain port would need for `classic`.
    """
    *fast, (_, classic) = runs.items()
    best = min(classic[DISTANCE])
    return {
        "port_seconds": port,
        "best_epoch_of_classic": best,
        "fast": {name: _beside(run, classic, best, port) for name, run in fast},
    }


def _beside(fast: dict[str, Any], classic: dict[str, Any], best: float, port: float) -> dict[str, float | None]:
    """Return one run of `fast` beside `classic`; where it never passed, the time to it is None."""
    ends = accumulate(fast["epoch_seconds"])
    passed = next((end for end, distance in zip(ends, fast[DISTANCE], strict=True) if distance < best), None)
    results: dict[str, float | None] = {
        "seconds_to_pass": passed and round(passed, 1),
        "fraction_of_port": passed and round(passed / port, 4),
    }
    for role in ROLES:
        here, there = (_distance(run[role]["generator"]) for run in (fast, classic))
        results[f"{role}_over_classic"] = round(here / there, 3)
        results[f"{role}_over_train"] = round(here / _distance(fast[role]["train"]), 2)
    return results


def _reports(candidate: QualityReport, baselines: Baselines) -> dict[str, Any]:
    return {"generator": candidate.model_dump(mode="json"), **baselines.model_dump(mode="json")}


def _distance(report: Mapping[str, Any]) -> float:
    return float(report[DISTANCE]["value"])
