"""What the tests of checkpoints share: small ones, saved, and two ways to damage a file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dcgan.provenance import Configuration
from dcgan.recipe import SMOKE
from dcgan.training.checkpoint import ARRAYS_FILE, DIGESTS_FILE, METADATA_FILE, Checkpoint, EpochRecord, save_checkpoint

CONFIGURATION = Configuration(recipe=SMOKE, seed=1, dataset_digest="d" * 64)
ARRAYS = {
    "generator/project/kernel": np.linspace(-1, 1, 60, dtype=np.float32).reshape(3, 20),
    "discriminator/logit/bias": np.array([np.float32(np.pi)]),
    "generator_adam/iteration": np.array(2**40 + 1),
    "generator_adam/empty": np.zeros((0, 3), np.float32),
}
GENERATOR = {"project/kernel": np.linspace(1, -1, 60, dtype=np.float32).reshape(3, 20)}
FILES = (ARRAYS_FILE, METADATA_FILE, DIGESTS_FILE)


def checkpoint_after(epoch: int, configuration: Configuration = CONFIGURATION) -> Checkpoint:
    """Return a small checkpoint whose history tells its epochs apart."""
    grids = np.random.default_rng(epoch).integers(0, 256, (epoch, 8, 8)).astype(np.uint8)
    records = [
        EpochRecord(epoch=e, step=8 * e, finished_at=1.7e9 + e / 3, metrics={"generator_loss": 1 / 3 / e, "x": 1e-300})
        for e in range(1, epoch + 1)
    ]
    return Checkpoint.make(configuration, ARRAYS, zip(records, grids, strict=True), GENERATOR)


def save_states(folder: Path, *epochs: int) -> list[Path]:
    """Save checkpoints of epochs and return their folders, newest first."""
    for epoch in epochs:
        save_checkpoint(folder / f"epoch-{epoch}", checkpoint_after(epoch))
    return [folder / f"epoch-{epoch}" for epoch in sorted(epochs, reverse=True)]


@pytest.fixture
def saved(tmp_path) -> Path:
    """Return the folder of a checkpoint after two epochs."""
    return save_states(tmp_path, 2)[0]


def edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change what a file holds."""
    path.write_bytes(change(path.read_bytes()))


def flipped(content: bytes, position: float) -> bytes:
    """Return bytes with one bit flipped, at a position from 0 (first) to 1 (last)."""
    index = round(position * (len(content) - 1))
    return content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :]
