"""One trial: a training that is killed, continued, and compared with the reference."""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.chaos_moments import stage
from benchmarks.chaos_outcome import Outcome, is_finished, outcome
from benchmarks.chaos_plan import Kill
from benchmarks.chaos_training import Place, training

ATTEMPTS = 3
SAME = "same"


@dataclass(frozen=True)
class Death:
    """What a kill hit: what the training did, the last epoch whose state was saved, and the seconds since then."""

    stage: str
    saved_epoch: int
    lost_seconds: float


@dataclass(frozen=True)
class Trial:
    """What was killed and continued, and what came of it."""

    number: int
    moments: list[str]
    deaths: list[Death]
    resumed_from: str
    verdict: str


def try_training(number: int, kills: list[Kill], reference: Outcome, root: Path) -> Trial:
    """Train, be killed, and continue until the end; a training that ended before its kill does not count."""
    for attempt in range(ATTEMPTS):
        place = Place(root / f"run-{number:02}-{attempt}")
        planned = [kill.sooner(attempt) for kill in kills]
        deaths: list[Death] = []
        family: list[psutil.Process] = []
        for kill in planned:
            command = training(place)
            if not command.kill_at(kill.moment, server_too=kill.server_too):
                break
            family += command.family
            deaths.append(_death(place.state, command.began))
        if len(deaths) == len(kills):
            verdict, resumed_from = _continue(place, family, reference)
            if verdict == SAME:
                shutil.rmtree(place.root)
            return Trial(number, [kill.name for kill in planned], deaths, resumed_from, verdict)
        shutil.rmtree(place.root)
    return Trial(number, [kill.name for kill in kills], [], "", f"not hit in {ATTEMPTS} attempts")


def _continue(place: Place, family: list[psutil.Process], reference: Outcome) -> tuple[str, str]:
    """Run the same command to its end, unless it was there; return the verdict, and what it went on from."""
    resumed_from, weights = "it was done", reference.weights_sha256
    if not is_finished(place):
        code = training(place).finish()
        if code != 0:
            return f"exit code {code}: {place.log.read_text().splitlines()[-1]}", ""
        summary = json.loads(place.summary.read_text())
        epoch, weights = summary["resumed_from_epoch"], summary["weights_sha256"]
        resumed_from = f"epoch {epoch}" if epoch else "the beginning"
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
