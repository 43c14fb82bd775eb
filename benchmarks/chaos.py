"""`make chaos`: kill trainings at moments drawn from a seed, continue them, and compare them with one never killed."""

import argparse
import json
import secrets
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.chaos_moments import EPOCHS
from benchmarks.chaos_outcome import Outcome, outcome
from benchmarks.chaos_plan import plans
from benchmarks.chaos_promotion import try_promotion
from benchmarks.chaos_training import Place, training
from benchmarks.chaos_trial import SAME, Trial, try_training
from dcgan.files import atomic_file
from dcgan.provenance import environment
from tasks.settings import CHECKOUT, read_settings, settle_environment

RESULT = CHECKOUT / "benchmarks" / "results" / "chaos.json"


def main(arguments: list[str]) -> int:
    """Run the trials, show and write what came of them, and return 0 when all are good, else 1."""
    options = _parser().parse_args(arguments)
    settle_environment()
    chaos = read_settings().root / "chaos"
    chaos.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix=f"seed-{options.seed}-", dir=chaos))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(
        f"Seed {options.seed}: {options.runs} trainings of {EPOCHS} epochs are killed and continued in {root}."
    )
    reference, timeline = _reference(Place(root / "reference"))
    console.print(f"The reference took {timeline[-1]:.0f} s and ended in the weights {reference.weights_sha256[:12]}.")
    trials: list[Trial] = []
    for number, kills in enumerate(plans(options.seed, options.runs, timeline), start=1):
        trials.append(_told(try_training(number, kills, reference, root), console))
    trials.append(_told(try_promotion(options.runs + 1, Place(root / "reference")), console))
    good = all(trial.verdict == SAME for trial in trials)
    console.print(_table(trials))
    _write(options, reference, timeline, trials)
    if good:
        shutil.rmtree(root)
    console.print(
        f"{sum(trial.verdict == SAME for trial in trials)} of {len(trials)} are the same; see {options.output}."
    )
    return 0 if good else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="how many trainings to kill")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of the moments; drawn when absent")
    parser.add_argument("--output", type=Path, default=RESULT, help="the JSON file to write")
    return parser


def _reference(place: Place) -> tuple[Outcome, list[float]]:
    """Train once without a kill; return what it left, and when it reached its milestones."""
    command = training(place)
    timeline = command.timeline()
    if command.finish() != 0:
        raise SystemExit(f"The reference failed; its log is {place.log}.")
    return outcome(place), timeline


def _told(trial: Trial, console: Console) -> Trial:
    console.print(f"{trial.number:3} {' | '.join(death.stage for death in trial.deaths)}: {trial.verdict}")
    return trial


def _table(trials: list[Trial]) -> Table:
    table = Table("run", "moment", "stage", "resumed from", "lost work", "verdict")
    for trial in trials:
        table.add_row(
            str(trial.number),
            "\n".join(trial.moments),
            "\n".join(death.stage for death in trial.deaths),
            trial.resumed_from,
            "\n".join(f"{death.lost_seconds:.1f} s" for death in trial.deaths),
            trial.verdict,
        )
    return table


def _write(options: argparse.Namespace, reference: Outcome, timeline: list[float], trials: list[Trial]) -> None:
    result = {
        "seed": options.seed,
        "epochs": EPOCHS,
        "machine": dict(environment()),
        "reference": {"seconds": round(timeline[-1], 1), **reference.model_dump()},
        "trials": [asdict(trial) for trial in trials],
        "same": sum(trial.verdict == SAME for trial in trials),
    }
    with atomic_file(options.output) as file:
        file.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
