"""How good the generators of the recipes are, and how soon: `python -m benchmarks quality`.

Each training run is the whole pipeline, all in one store, so each generator is evaluated beside the champion of the
runs before it. `fast` takes a quarter of an hour, `classic` an hour. Only what has no published result is trained: a
run whose hyperparameters have changed, or whose entry was removed from benchmarks/results/quality.json. A benchmark
that was stopped resumes when it is started again; remove .state/benchmarks/quality to forget what it did.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from rich.console import Console

from benchmarks.pipeline import train
from benchmarks.tables import ROLES, publish, read_results
from benchmarks.worker import CHECKOUT
from dcgan.evaluation.gate import Evaluation
from dcgan.evaluation.report import Baselines, QualityReport
from dcgan.recipe import RECIPES, RecipeName
from tracking.tags import REPORT_JSON

STATE = CHECKOUT / ".state" / "benchmarks" / "quality"
RUNS: tuple[tuple[RecipeName, int], ...] = (("fast", 0), ("fast", 1), ("fast", 2), ("classic", 0))
DISTANCE = "frechet_distance"


def main() -> None:
    """Train what has no result yet, and publish the results."""
    STATE.mkdir(parents=True, exist_ok=True)
    runs = read_results("quality")["training_runs"]
    for recipe, seed in RUNS:
        name = f"{recipe}, seed {seed}"
        hyperparameters = RECIPES[recipe].model_dump(mode="json")
        if runs.get(name, {}).get("hyperparameters") != hyperparameters:
            with Console().status(f"Training {name}"):
                runs[name] = summarize(run_once(recipe, seed, STATE))
    runs = {name: runs[name] for name in (f"{recipe}, seed {seed}" for recipe, seed in RUNS)}
    publish("quality", {"training_runs": runs, "comparison": compare(runs)})


def run_once(recipe: RecipeName, seed: int, state: Path, source: str = "bundled") -> dict[str, Any]:
    """Return the results of a training run, which may have ended before this program began."""
    digest = hashlib.sha256(RECIPES[recipe].model_dump_json().encode()).hexdigest()[:8]
    ended = state / f"{recipe}-{seed}-{digest}.run.json"
    if not ended.exists():
        run = {
            **train(recipe, state, "--seed", str(seed), source=source, summary=state / f"{recipe}-{seed}.json"),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "hyperparameters": RECIPES[recipe].model_dump(mode="json"),
        }
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
        "precision": run["precision"],
        "command_seconds": round(run["wall_seconds"], 1),
        "training_seconds": round(sum(each["epoch_seconds"] for each in metrics), 1),
        "epoch_seconds": [round(each["epoch_seconds"], 1) for each in metrics],
        DISTANCE: [round(each[DISTANCE], 2) for each in metrics],
        "selection": _reports(evaluation.candidate.selection, evaluation.selection_baselines),
        "held_out": _reports(evaluation.candidate.held_out, evaluation.held_out_baselines),
        "verdict": evaluation.verdict.reason if evaluation.verdict else None,
        "at": run["at"],
        "hyperparameters": run["hyperparameters"],
    }


def compare(runs: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return when each run of `fast` passed the best epoch of `classic`, and how its end compares with classic's.

    Args:
        runs: Summaries by name, one of them of `classic`.
    """
    (classic,) = (run for run in runs.values() if run["recipe"] == "classic")
    fast = {name: run for name, run in runs.items() if run["recipe"] == "fast"}
    best = min(classic[DISTANCE])
    return {"best_epoch_of_classic": best, "fast": {name: _beside(run, classic, best) for name, run in fast.items()}}


def _beside(fast: dict[str, Any], classic: dict[str, Any], best: float) -> dict[str, float | None]:
    """Return one run of `fast` beside `classic`; where it never passed, the epoch is None."""
    results: dict[str, float | None] = {
        "epoch_that_passed": next((n for n, distance in enumerate(fast[DISTANCE], 1) if distance < best), None)
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
