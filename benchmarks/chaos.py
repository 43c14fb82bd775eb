"""`make chaos`: kill trainings at moments drawn from a seed, continue them, and compare them with one never killed."""

import argparse
import json
import secrets
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.chaos_moments import EPOCHS, stage
from benchmarks.chaos_outcome import Outcome, is_finished, outcome
from benchmarks.chaos_plan import Kill, plans
from benchmarks.chaos_training import Place, Training
from dcgan.files import atomic_file
from dcgan.provenance import environment
from tasks.settings import CHECKOUT, read_settings, settle_environment

RESULT = CHECKOUT / "benchmarks" / "results" / "chaos.json"
ATTEMPTS = 3
SAME = "same"
RESUMED = {None: "it was done", 0: "the beginning"}


@dataclass(frozen=True)
class Death:
    """What a kill hit: what the training did, the last epoch whose state was saved, and the seconds since then."""

    stage: str
    saved_epoch: int
    lost_seconds: float


@dataclass(frozen=True)
class Trial:
    """A training that was killed and continued, and what came of it."""

    number: int
    moments: list[str]
    deaths: list[Death]
    resumed_from: int | None
    verdict: str


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
    trials = []
    for number, kills in enumerate(plans(options.seed, options.runs, timeline), start=1):
        trials.append(_trial(number, kills, reference, root))
        console.print(f"{number:3} {' | '.join(d.stage for d in trials[-1].deaths)}: {trials[-1].verdict}")
    good = all(trial.verdict == SAME for trial in trials)
    console.print(_table(trials))
    _write(options, reference, timeline, trials)
    shutil.rmtree(root / "reference")
    if good:
        root.rmdir()
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
    training = Training(place)
    timeline = training.timeline()
    if training.finish() != 0:
        raise SystemExit(f"The reference failed; its log is {place.log}.")
    return outcome(place), timeline


def _trial(number: int, kills: list[Kill], reference: Outcome, root: Path) -> Trial:
    """Train, be killed, and continue until the end; a training that ended before its kill does not count."""
    for attempt in range(ATTEMPTS):
        place = Place(root / f"run-{number:02}-{attempt}")
        planned = [kill.sooner(attempt) for kill in kills]
        deaths, family = [], []
        for kill in planned:
            training = Training(place)
            if not training.kill_at(kill.moment, server_too=kill.server_too):
                break
            family += training.family
            deaths.append(_death(place.state, training.began))
        if len(deaths) == len(kills):
            verdict, resumed_from = _continue(place, family, reference)
            if verdict == SAME:
                shutil.rmtree(place.root)
            return Trial(number, [kill.name for kill in planned], deaths, resumed_from, verdict)
        shutil.rmtree(place.root)
    return Trial(number, [kill.name for kill in kills], [], None, f"not hit in {ATTEMPTS} attempts")


def _continue(place: Place, family: list[psutil.Process], reference: Outcome) -> tuple[str, int | None]:
    """Run the same command to its end, unless it was there; return the verdict, and the epoch that it went on from."""
    resumed_from, weights = None, reference.weights_sha256
    if not is_finished(place):
        code = Training(place).finish()
        if code != 0:
            return f"exit code {code}: {place.log.read_text().splitlines()[-1]}", None
        summary = json.loads(place.summary.read_text())
        resumed_from, weights = summary["resumed_from_epoch"], summary["weights_sha256"]
    _, alive = psutil.wait_procs(family, timeout=60)
    unlike = outcome(place).differences(reference) + [f"process {process.pid} lives" for process in alive]
    unlike += ["the summary's weights"] if weights != reference.weights_sha256 else []
    return "; ".join(unlike) or SAME, resumed_from


def _death(state: Path, began: float) -> Death:
    """Tell what a kill of just now hit, and how long it was since the training began or last saved a state."""
    states = sorted(state.glob("runs/*/states/epoch-*"))
    saved_epoch = int(states[-1].name.removeprefix("epoch-")) if states else 0
    lost = time.time() - max([began, *(path.stat().st_mtime for path in states)])
    return Death(stage(state, began), saved_epoch, round(lost, 2))


def _table(trials: list[Trial]) -> Table:
    table = Table("run", "moment", "stage", "resumed from", "lost work", "verdict")
    for trial in trials:
        table.add_row(
            str(trial.number),
            "\n".join(trial.moments),
            "\n".join(death.stage for death in trial.deaths),
            RESUMED.get(trial.resumed_from, f"epoch {trial.resumed_from}"),
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
