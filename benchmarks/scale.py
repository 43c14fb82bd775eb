"""Whether training costs the same for much data as for little: `python -m benchmarks scale`.

Steps of `classic` on 6,000, 60,000 and 600,000 images, each in a process of its own; they take turns. A turn is as long
as a chunk of the streamed size, so one chunk is read in every turn. Then the seconds and the memory of 30 epochs of
`smoke`.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.pipeline import train
from benchmarks.tables import publish
from benchmarks.worker import CHECKOUT, Worker
from dcgan.data.idx import TRAIN, read_images, read_labels
from dcgan.data.parquet import ROW_GROUP_ROWS, normalise, write_row_groups
from dcgan.recipe import CLASSIC

SIZES = (6_000, 60_000, 600_000)
RESIDENT, STREAMED = SIZES[1:]
ROUNDS = 3
STEPS = CLASSIC.shuffle_buffer_images // CLASSIC.batch_size
EPOCHS = 30
WINDOW = 5  # epochs at the beginning, and at the end


def main() -> None:
    """Measure, and publish the results."""
    console = Console()
    with tempfile.TemporaryDirectory(prefix="dcgan-bench-") as temporary:
        with console.status(f"Writing {STREAMED:,} images"):
            path = Path(temporary) / "train.parquet"
            write_row_groups(path, shifted_digits(STREAMED), {})
        sizes = measure_sizes(path, console)
        with console.status(f"Training {EPOCHS} epochs of smoke"):
            records = train("smoke", Path(temporary) / "smoke", "--epochs", str(EPOCHS))["records"]
    publish("scale", {"steps_per_turn": STEPS, **sizes, "epochs_of_smoke": compare_epochs(records)})


def shifted_digits(rows: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield row groups of MNIST's digits, each in an order and shifted by up to two pixels as its own seed decides."""
    images, labels = (
        read(CHECKOUT / "data" / "mnist" / f"{file.name}.gz")
        for read, file in ((read_images, TRAIN.images), (read_labels, TRAIN.labels))
    )
    for number in range(0, rows, ROW_GROUP_ROWS):
        draw = np.random.default_rng(number)
        taken = draw.permutation(len(images))[: min(ROW_GROUP_ROWS, rows - number)]
        shift = tuple(draw.integers(-2, 3, size=2))
        yield normalise(np.roll(images[taken], shift, axis=(1, 2))), labels[taken]


def measure_sizes(path: Path, console: Console) -> dict[str, Any]:
    """Return the results of each size, and how the streamed one compares with the largest resident one."""
    with ExitStack() as stack:
        workers = {}
        for size in SIZES:
            with console.status(f"Starting on {size:,} images"):
                arguments = (str(path), str(size))
                environment = {"TF_ENABLE_ONEDNN_OPTS": "1"}
                worker = Worker(sys.executable, "parquet_file", CLASSIC.batch_size, environment, arguments, STEPS)
                workers[size] = stack.enter_context(worker)
        for number in range(ROUNDS):
            for size, worker in workers.items():
                with console.status(f"Round {number + 1} of {ROUNDS}: {STEPS} steps on {size:,} images"):
                    worker.take_turn()
    resident, streamed = workers[RESIDENT], workers[STREAMED]
    ratios = [one / other for one, other in zip(resident.turns, streamed.turns, strict=True)]
    return {
        "sizes": {str(size): _summarize(worker) for size, worker in workers.items()},
        "streamed_speed_over_resident": round(median(ratios), 3),
        "streamed_memory_over_resident_mb": round(streamed.peak_memory_mb - resident.peak_memory_mb, 1),
    }


def _summarize(worker: Worker) -> dict[str, Any]:
    speeds = [CLASSIC.batch_size / seconds for seconds in worker.turns]
    return {
        "images_per_second": round(median(speeds), 1),
        "images_per_second_range": [round(limit(speeds), 1) for limit in (min, max)],
        "peak_memory_mb": round(worker.peak_memory_mb, 1),
    }


def compare_epochs(records: list[dict[str, Any]]) -> dict[str, float]:
    """Return the seconds of the first and of the last epochs, without the very first, which compiles."""
    metrics = [record["metrics"] for record in records[1:]]
    early, late = metrics[:WINDOW], metrics[-WINDOW:]
    return {
        "epochs": len(records),
        "early_epoch_seconds": round(median(each["epoch_seconds"] for each in early), 3),
        "late_epoch_seconds": round(median(each["epoch_seconds"] for each in late), 3),
        "memory_growth_mb": round(late[-1]["peak_memory_mb"] - early[-1]["peak_memory_mb"], 1),
    }
