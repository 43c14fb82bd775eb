"""How good the generators are that the recipes train, and how soon they are: `python -m benchmarks quality`.

Every training is the whole pipeline, all in one store, so each is judged beside the champion of those before it. That
takes an hour and a half. What is stopped goes on when it is started again; remove
.state/benchmarks/quality to measure anew.
"""

import json
from itertools import accumulate
from pathlib import Path

import mlflow
from rich.console import Console
from rich.table import Table

from benchmarks.machine import RESULTS, write_results
from benchmarks.pipeline import train
from benchmarks.worker import CHECKOUT
from dcgan.recipe import CLASSIC

STATE = CHECKOUT / ".state" / "benchmarks" / "quality"
TRAININGS = (("fast", 0), ("fast", 1), ("fast", 2), ("classic", 0))
PORT = "Keras, as installed"
MNIST_IMAGES = 60_000
DISTANCE = "frechet_distance"


def main() -> None:
    """Train, print a table, and write benchmarks/results/quality.json."""
    console = Console()
    STATE.mkdir(parents=True, exist_ok=True)
    trainings = {}
    for recipe, seed in TRAININGS:
        name = f"{recipe}, seed {seed}"
        with console.status(f"Training {name}"):
            trainings[name] = training_figures(run_once(recipe, seed, STATE))
    step = json.loads((RESULTS / "step.json").read_text(encoding="utf-8"))
    figures = {"trainings": trainings, "comparison": compare(trainings, port_seconds(step))}
    console.print(table(figures))
    console.print(f"Written to {write_results('quality', figures)}")


def run_once(recipe: str, seed: int, state: Path) -> dict:
    """Return what a training left when it ended, which may have been before this program began."""
    ended = state / f"{recipe}-{seed}.run.json"
    if not ended.exists():
        run = train(recipe, state, "--seed", str(seed), summary=state / f"{recipe}-{seed}.json")
        ended.write_text(json.dumps(run, indent=2), encoding="utf-8")
    return json.loads(ended.read_text(encoding="utf-8"))


def training_figures(run: dict) -> dict:
    """Return a training's times, its curve, what both classifiers said at its end, and the gate's verdict."""
    metrics = [record["metrics"] for record in run["records"]]
    mlflow.set_tracking_uri(run["tracking_uri"])
    report = mlflow.artifacts.load_dict(f"runs:/{run['run_id']}/report/quality.json")
    return {
        "recipe": run["recipe"],
        "seed": run["seed"],
        "epochs": run["epochs"],
        "training_seconds": round(sum(each["epoch_seconds"] for each in metrics), 1),
        "epoch_seconds": [round(each["epoch_seconds"], 1) for each in metrics],
        DISTANCE: [round(each[DISTANCE], 2) for each in metrics],
        "evaluator": {"generator": report["candidate"]["quality"], **report["quality_bounds"]},
        "judge": {"generator": report["candidate"]["judge"], **report["judge_bounds"]},
        "verdict": report["verdict"]["reason"],
    }


def port_seconds(step: dict) -> float:
    """Return how long the plain port would train for the seed's 50 epochs, by what the benchmark of the step wrote."""
    speed = step["recipes"]["classic"]["variants"][PORT]["images_per_second"]
    steps = CLASSIC.epochs * (MNIST_IMAGES // CLASSIC.batch_size)
    return round(steps * CLASSIC.batch_size / speed, 1)


def compare(trainings: dict[str, dict], port: float) -> dict:
    """Return when each training of fast passed the best epoch of classic, and how its end compares with classic's.

    Args:
        trainings: figures by name, those of classic last.
        port: seconds that the plain port would need for classic.
    """
    *fast, (_, classic) = trainings.items()
    best = min(classic[DISTANCE])
    return {
        "port_seconds": port,
        "best_epoch_of_classic": best,
        "fast": {name: _beside(figures, classic, best, port) for name, figures in fast},
    }


def _beside(fast: dict, classic: dict, best: float, port: float) -> dict[str, float | None]:
    """Return one training of fast beside classic; where it never passed, the time to it is None."""
    ends = accumulate(fast["epoch_seconds"])
    passed = next((end for end, distance in zip(ends, fast[DISTANCE], strict=True) if distance < best), None)
    figures: dict[str, float | None] = {
        "seconds_to_pass": passed and round(passed, 1),
        "share_of_port": passed and round(passed / port, 4),
    }
    for role in ("evaluator", "judge"):
        here, there = (_distance(training[role]["generator"]) for training in (fast, classic))
        figures[f"{role}_over_classic"] = round(here / there, 3)
        figures[f"{role}_over_floor"] = round(here / _distance(fast[role]["floor"]), 2)
    return figures


def _distance(report: dict) -> float:
    return float(report[DISTANCE]["value"])


def table(figures: dict) -> Table:
    """Return the figures as a table."""
    result = Table("training", "minutes", "evaluator", "judge", "verdict", title="Fréchet distance of 10,000 images")
    for name, training in figures["trainings"].items():
        result.add_row(
            f"{name}, {training['epochs']} epochs",
            f"{training['training_seconds'] / 60:.1f}",
            *(f"{_distance(training[role]['generator']):.2f}" for role in ("evaluator", "judge")),
            training["verdict"],
        )
    last = next(iter(figures["trainings"].values()))
    for bound in ("floor", "noisy", "blurred", "untrained"):
        result.add_row(bound, "", *(f"{_distance(last[role][bound]):.2f}" for role in ("evaluator", "judge")), "")
    return result
