"""`make chaos`: kill training runs anywhere, resume them, and compare them with one that was never interrupted.

Every second run is killed at a named point, the others at any time; two of five are killed twice. The last trial kills
a promotion.
"""

import argparse
import json
import random
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.tables import RESULTS
from benchmarks.tables import main as write_tables
from dcgan.provenance import environment
from tests.e2e.chaos import EPOCHS, SAME, Kill, Place, train_uninterrupted, try_promotion, try_training
from tests.e2e.kill_at import TRAINING_POINTS


def main(arguments: list[str]) -> int:
    """Run the trials, print and write their verdicts, and return 0 when all ended the same, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="number of training runs to kill")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="seed that decides when")
    parser.add_argument("--output", type=Path, default=RESULTS / "chaos.json", help="JSON file to write")
    options = parser.parse_args(arguments)
    root = Path(tempfile.mkdtemp(prefix="dcgan-chaos-"))
    finished = Place(root / "uninterrupted", {})
    reference, seconds = train_uninterrupted(finished)
    print(f"Seed {options.seed}: {options.runs} training runs are killed and resumed in {root}.", flush=True)
    trials = []
    for number, kills in enumerate(_plans(options.seed, options.runs, seconds), start=1):
        trials.append(try_training(Place(root / str(number), {}), kills, reference))
        print(number, "; ".join(trials[-1].moments), "→", trials[-1].verdict, flush=True)
    trials.append(try_promotion(finished))
    result = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": options.seed,
        "epochs": EPOCHS,
        "machine": dict(environment()),
        "reference": {"seconds": round(seconds, 1), **asdict(reference)},
        "trials": [{"number": number, **asdict(trial)} for number, trial in enumerate(trials, start=1)],
        "same": sum(trial.verdict == SAME for trial in trials),
    }
    options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    write_tables()
    print(f"{result['same']} of {len(trials)} ended the same; see {options.output}.")
    if result["same"] < len(trials):
        return 1
    shutil.rmtree(root)
    return 0


def _plans(seed: int, runs: int, seconds: float) -> Iterator[list[Kill]]:
    """Yield the kills of each run, at a named point or within the seconds of an uninterrupted run."""
    draw = random.Random(seed)  # noqa: S311 - times, not secrets
    names = list(TRAINING_POINTS)
    points = draw.sample(range(len(names)), len(names))
    for number in range(runs):
        twice = number % 5 in (1, 2)
        first = points[number // 2 % len(points)]
        if number % 2:
            yield [Kill(draw.uniform(0, seconds), server_too=draw.random() < 0.5) for _ in range(1 + twice)]
        else:  # the later point is one that the resumed process reaches
            later = names[first + 1 :] if twice else []
            yield [Kill(names[first]), *([Kill(draw.choice(later))] if later else [])]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
