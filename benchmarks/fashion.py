"""What `fast` makes of data for which it was not chosen: `python -m benchmarks fashion`.

Fashion-MNIST (Xiao et al., https://arxiv.org/abs/1708.07747) from Debian's package dataset-fashion-mnist, with the
seeds of the benchmark `quality`. The classifiers are trained on the same data, once. It takes 20 minutes, and resumes
when it is started again; remove .state/benchmarks/fashion to forget what it did.
"""

from pathlib import Path

from rich.console import Console

from benchmarks.quality import run_once, summarize
from benchmarks.tables import publish
from benchmarks.worker import CHECKOUT

STATE = CHECKOUT / ".state" / "benchmarks" / "fashion"
IMAGES = Path("/usr/share/datasets/fashion-mnist")
SEEDS = (0, 1, 2)


def main() -> None:
    """Train with each seed, and publish the results."""
    STATE.mkdir(parents=True, exist_ok=True)
    runs = {}
    for seed in SEEDS:
        with Console().status(f"Training with seed {seed}"):
            runs[f"seed {seed}"] = summarize(run_once("fast", seed, STATE, str(IMAGES)))
    publish("fashion", {"training_runs": runs})
