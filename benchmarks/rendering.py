"""How long the animation of 50 epochs takes: `python -m benchmarks rendering`.

It is compared with the way of TensorFlow's DCGAN tutorial (https://www.tensorflow.org/tutorials/generative/dcgan), the
reference implementation: a figure of matplotlib for every epoch, saved as PNG, read back and appended.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import imageio.v2 as imageio
import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from rich.console import Console

from benchmarks.tables import publish
from benchmarks.worker import CHECKOUT
from dcgan.data.idx import TRAIN, read_images
from dcgan.data.parquet import normalise
from dcgan.images import GRID_SIDE, frame_schedule, image_grid, png_bytes, upscaled, write_animation

EPOCHS = 50
ROUNDS = 3


def main() -> None:
    """Measure both ways in turns, and publish the results."""
    samples = epoch_samples(EPOCHS)
    ways = {"this_project": animate, "tutorial": animate_by_matplotlib}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory(prefix="dcgan-bench-") as temporary, Console().status("Rendering"):
        animate_by_matplotlib(samples[:1], Path(temporary))  # finds fonts
        for _ in range(ROUNDS):
            for name, way in ways.items():
                seconds[name].append(_seconds(way, samples, Path(temporary)))
    ratios = [theirs / ours for ours, theirs in zip(seconds["this_project"], seconds["tutorial"], strict=True)]
    publish(
        "rendering",
        {
            "epochs": EPOCHS,
            **{f"{name}_seconds": round(median(taken), 3) for name, taken in seconds.items()},
            "speedup": round(median(ratios), 1),
        },
    )


def epoch_samples(epochs: int) -> np.ndarray:
    """Return sixteen digits for every epoch, float32 (epochs, 16, 28, 28, 1) in [-1, 1]."""
    digits = read_images(CHECKOUT / "data" / "mnist" / f"{TRAIN.images.name}.gz")[: epochs * GRID_SIDE**2]
    return normalise(digits).reshape(epochs, GRID_SIDE**2, 28, 28, 1)


def animate(samples: np.ndarray, folder: Path) -> Path:
    """Return the animation of the samples, and a sample grid of each epoch, as this project writes them."""
    path = folder / "ours.gif"
    grids = np.stack([image_grid(images) for images in samples])
    for epoch, grid in enumerate(grids):
        (folder / f"grid_{epoch:04d}.png").write_bytes(png_bytes(upscaled(grid)))
    write_animation(path, grids, list(range(1, len(samples) + 1)))
    return path


def animate_by_matplotlib(samples: np.ndarray, folder: Path) -> Path:
    """Return the animation of the samples as the tutorial makes it, with its size, its colours and its schedule."""
    mpl.use("Agg")
    for epoch, images in enumerate(samples):
        plt.figure(figsize=(4, 4))
        for index in range(len(images)):
            plt.subplot(4, 4, index + 1)
            plt.imshow(images[index, :, :, 0] * 127.5 + 127.5, cmap="gray")
            plt.axis("off")
        plt.savefig(folder / f"image_at_epoch_{epoch:04d}.png")
        plt.close()
    path = folder / "tutorial.gif"
    with imageio.get_writer(path, mode="I") as writer:
        for epoch in frame_schedule(len(samples)):
            writer.append_data(imageio.imread(folder / f"image_at_epoch_{epoch:04d}.png"))
    return path


def _seconds(way: Callable[[np.ndarray, Path], Path], samples: np.ndarray, folder: Path) -> float:
    began = time.perf_counter()
    way(samples, folder)
    return time.perf_counter() - began
