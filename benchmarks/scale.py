"""Whether training costs the same for much data as for little: `python -m benchmarks scale`.

Steps of `classic` on 6,000, 60,000 and 600,000 images, each in a process of its own; they take turns. A turn is as long
as a part of the streamed size, so one is read in every turn. Then the seconds and the memory of 30 epochs of `smoke`.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import write_results
from benchmarks.pipeline import train
from benchmarks.worker import CHECKOUT, Worker
from dcgan.idx import read_images, read_labels
from dcgan.mnist import TRAIN
from dcgan.parquet import ROW_GROUP_ROWS, normalise, write_row_groups
from dcgan.recipe import CLASSIC

SIZES = (6_000, 60_000, 600_000)
RESIDENT, STREAMED = SIZES[1:]
ROUNDS = 3
STEPS = CLASSIC.shuffle_images // CLASSIC.batch_size
EPOCHS = 30
WINDOW = 5  # epochs that are compared with as many others


def main() -> None:
    """Measure, print a table, and write benchmarks/results/scale.json."""
    console = Console()
    with tempfile.TemporaryDirectory(prefix="dcgan-bench-") as temporary:
        with console.status(f"Writing {STREAMED:,} images"):
            path = Path(temporary) / "train.parquet"
            write_row_groups(path, shifted_digits(STREAMED), {})
        sizes = measure_sizes(path, console)
        with console.status(f"Training {EPOCHS} epochs of smoke"):
            records = train("smoke", Path(temporary) / "smoke", "--epochs", str(EPOCHS))["records"]
    figures = {"steps_per_turn": STEPS, **sizes, "epochs_of_smoke": epoch_figures(records)}
    console.print(table(figures))
    console.print(f"Written to {write_results('scale', figures)}")


def shifted_digits(rows: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield row groups of the digits of MNIST, shuffled and shifted by up to two pixels anew in every round of them."""
    images, labels = (
        read(CHECKOUT / "data" / "mnist" / f"{file.name}.gz")
        for read, file in ((read_images, TRAIN.images), (read_labels, TRAIN.labels))
    )
    for number in range(0, rows, ROW_GROUP_ROWS):
        draw = np.random.default_rng(number)
        taken = draw.permutation(len(images))[: min(ROW_GROUP_ROWS, rows - number)]
        shift = tuple(draw.integers(-2, 3, size=2))
        yield normalise(np.roll(images[taken], shift, axis=(1, 2))), labels[taken]


def measure_sizes(path: Path, console: Console) -> dict[str, object]:
    """Return each size's figures, and how the streamed one compares with the largest one that is held whole."""
    with ExitStack() as stack:
        workers = {}
        for size in SIZES:
            with console.status(f"Starting on {size:,} images"):
                arguments = (str(path), str(size))
                environment = {"TF_ENABLE_ONEDNN_OPTS": "1"}
                worker = Worker(sys.executable, "file_of_images", CLASSIC.batch_size, environment, arguments, STEPS)
                workers[size] = stack.enter_context(worker)
        for number in range(ROUNDS):
            for size, worker in workers.items():
                with console.status(f"Round {number + 1} of {ROUNDS}: {STEPS} steps on {size:,} images"):
                    worker.take_turn()
    resident, streamed = workers[RESIDENT], workers[STREAMED]
    ratios = [held / read for held, read in zip(resident.turns, streamed.turns, strict=True)]
    return {
        "sizes": {str(size): _size_figures(worker) for size, worker in workers.items()},
        "streamed_speed_over_resident": round(median(ratios), 3),
        "streamed_memory_over_resident_mb": round(streamed.peak_memory_mb - resident.peak_memory_mb, 1),
    }


def _size_figures(worker: Worker) -> dict[str, object]:
    speeds = [CLASSIC.batch_size / seconds for seconds in worker.turns]
    return {
        "images_per_second": round(median(speeds), 1),
        "images_per_second_range": [round(limit(speeds), 1) for limit in (min, max)],
        "peak_memory_mb": round(worker.peak_memory_mb, 1),
    }


def epoch_figures(records: list[dict]) -> dict[str, float]:
    """Return what the first epochs take and the last ones, the very first apart: it compiles."""
    metrics = [record["metrics"] for record in records[1:]]
    early, late = metrics[:WINDOW], metrics[-WINDOW:]
    return {
        "epochs": len(records),
        "early_epoch_seconds": round(median(each["epoch_seconds"] for each in early), 3),
        "late_epoch_seconds": round(median(each["epoch_seconds"] for each in late), 3),
        "memory_growth_mb": round(late[-1]["peak_memory_mb"] - early[-1]["peak_memory_mb"], 1),
    }


def table(figures: dict) -> Table:
    """Return the figures as a table."""
    result = Table("what", "measured", title="Much data, many epochs")
    for size, row in figures["sizes"].items():
        result.add_row(
            f"classic on {int(size):,} images",
            f"{row['images_per_second']:,.0f} images/s, {row['peak_memory_mb']:,.0f} MB",
        )
    result.add_row(
        "streamed, over held whole",
        f"{figures['streamed_speed_over_resident']:.1%} of the speed, "
        f"{figures['streamed_memory_over_resident_mb']:+,.0f} MB",
    )
    epochs = figures["epochs_of_smoke"]
    result.add_row(
        f"{epochs['epochs']} epochs of smoke",
        f"{epochs['early_epoch_seconds']:.2f} s an epoch early, {epochs['late_epoch_seconds']:.2f} s late, "
        f"{epochs['memory_growth_mb']:+,.1f} MB",
    )
    return result
