"""How long the pictures of 50 epochs take as an animation: `python -m benchmarks rendering`.

Beside this project's way stands that of TensorFlow's DCGAN tutorial (https://www.tensorflow.org/tutorials/generative/
dcgan), with which the project began: a figure of matplotlib for every epoch, saved as PNG, read back and appended.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import imageio.v2 as imageio
import matplotlib as mpl
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import write_results
from benchmarks.worker import CHECKOUT
from dcgan.idx import read_images
from dcgan.mnist import TRAIN
from dcgan.parquet import normalise
from dcgan.rendering import GRID_SIDE, frame_schedule, image_grid, write_animation

EPOCHS = 50
ROUNDS = 3


def main() -> None:
    """Measure both ways in turns, print a table, and write benchmarks/results/rendering.json."""
    console = Console()
    pictures = epoch_pictures(EPOCHS)
    ways = {"this_project": animate, "tutorial": animate_by_matplotlib}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory(prefix="dcgan-bench-") as temporary, console.status("Rendering"):
        animate_by_matplotlib(pictures[:1], Path(temporary))  # imports, finds fonts
        for _ in range(ROUNDS):
            for name, way in ways.items():
                seconds[name].append(_seconds(way, pictures, Path(temporary)))
    ratios = [theirs / ours for ours, theirs in zip(seconds["this_project"], seconds["tutorial"], strict=True)]
    figures = {
        "epochs": EPOCHS,
        **{f"{name}_seconds": round(median(taken), 3) for name, taken in seconds.items()},
        "speedup": round(median(ratios), 1),
    }
    console.print(table(figures))
    console.print(f"Written to {write_results('rendering', figures)}")


def epoch_pictures(epochs: int) -> np.ndarray:
    """Return sixteen digits for every epoch, float32 (epochs, 16, 28, 28, 1) in [-1, 1]."""
    digits = read_images(CHECKOUT / "data" / "mnist" / f"{TRAIN.images.name}.gz")[: epochs * GRID_SIDE**2]
    return normalise(digits).reshape(epochs, GRID_SIDE**2, 28, 28, 1)


def animate(pictures: np.ndarray, folder: Path) -> Path:
    """Return the animation of the pictures by this project's way."""
    path = folder / "ours.gif"
    write_animation(path, np.stack([image_grid(images) for images in pictures]), list(range(1, len(pictures) + 1)))
    return path


def animate_by_matplotlib(pictures: np.ndarray, folder: Path) -> Path:
    """Return the animation of the pictures by the tutorial's way, with its size, its colours and its schedule."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    for epoch, images in enumerate(pictures):
        plt.figure(figsize=(4, 4))
        for index in range(len(images)):
            plt.subplot(4, 4, index + 1)
            plt.imshow(images[index, :, :, 0] * 127.5 + 127.5, cmap="gray")
            plt.axis("off")
        plt.savefig(folder / f"image_at_epoch_{epoch:04d}.png")
        plt.close()
    path = folder / "tutorial.gif"
    with imageio.get_writer(path, mode="I") as writer:
        for epoch in frame_schedule(len(pictures)):
            writer.append_data(imageio.imread(folder / f"image_at_epoch_{epoch:04d}.png"))
    return path


def _seconds(way: Callable[[np.ndarray, Path], Path], pictures: np.ndarray, folder: Path) -> float:
    began = time.perf_counter()
    way(pictures, folder)
    return time.perf_counter() - began


def table(figures: dict) -> Table:
    """Return the figures as a table."""
    result = Table("what", "seconds", title=f"The animation of {figures['epochs']} epochs")
    result.add_row("this project", f"{figures['this_project_seconds']:.2f}")
    result.add_row("the tutorial's way", f"{figures['tutorial_seconds']:.2f}")
    result.add_row("speed-up", f"{figures['speedup']:.0f}×")
    return result
