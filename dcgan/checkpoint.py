"""The whole state of a training after an epoch, as a folder of plain arrays that is complete or absent.

A checkpoint is a folder with `arrays.npz` (every array by its name, no pickles) and `checkpoint.json` (counters,
configuration, history, and the SHA-256 of the arrays' file). Its history holds the figures and the picture of every
epoch so far, so it is also the journal from which a tracker can be brought up to date.
"""

import hashlib
import logging
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from dcgan.errors import CheckpointError
from dcgan.files import atomic_folder, sha256_of_file
from dcgan.provenance import Configuration, code_digest, environment

logger = logging.getLogger(__name__)

ARRAYS_FILE = "arrays.npz"
DESCRIPTION_FILE = "checkpoint.json"
GRIDS = "history/grids"


class EpochRecord(BaseModel):
    """The figures of one epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    step: int
    finished_at: float
    metrics: dict[str, float]


class Description(BaseModel):
    """What `checkpoint.json` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    step: int
    configuration: Configuration
    code_digest: str
    environment: dict[str, str]
    records: tuple[EpochRecord, ...]
    arrays_sha256: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """A training's state after `description.epoch` epochs.

    Attributes:
        description: counters, configuration, code, environment and the figures of every epoch so far.
        arrays: what `Gan.state()` gives, by name.
        grids: uint8 (epochs, height, width), the picture of every epoch so far.
    """

    description: Description
    arrays: dict[str, np.ndarray]
    grids: np.ndarray

    @classmethod
    def make(
        cls,
        configuration: Configuration,
        arrays: dict[str, np.ndarray],
        history: Iterable[tuple[EpochRecord, np.ndarray]],
    ) -> Self:
        """Return the checkpoint after the last epoch of `history`, made by this code on this machine."""
        records, grids = zip(*history, strict=True)
        description = Description(
            epoch=records[-1].epoch,
            step=records[-1].step,
            configuration=configuration,
            code_digest=code_digest(),
            environment=dict(environment()),
            records=records,
        )
        return cls(description, arrays, np.stack(grids))

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.description.epoch

    def weights_sha256(self) -> str:
        """Return the SHA-256 of the weights: generator, then discriminator, float32 little-endian, in layer order."""
        digest = hashlib.sha256()
        for network in ("generator/", "discriminator/"):
            for name, array in self.arrays.items():
                if name.startswith(network):
                    digest.update(np.ascontiguousarray(array, "<f4").tobytes())
        return digest.hexdigest()

    def warn_if_inexact(self) -> list[str]:
        """Return, and log, why training on from here may not give the bits of a training never interrupted."""
        here = environment()
        there = self.description.environment
        reasons = [f"{name} was {there.get(name)}, is {here[name]}" for name in here if here[name] != there.get(name)]
        if self.description.code_digest != code_digest():
            reasons.append("the library's code has changed")
        if reasons:
            logger.warning("Going on from epoch %d is not exact: %s.", self.epoch, "; ".join(reasons))
        return reasons


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint as the folder `path`, which appears whole or not at all."""
    with atomic_folder(path) as folder:
        arrays = folder / ARRAYS_FILE
        np.savez(arrays, allow_pickle=False, **checkpoint.arrays, **{GRIDS: checkpoint.grids})
        description = checkpoint.description.model_copy(update={"arrays_sha256": sha256_of_file(arrays)})
        (folder / DESCRIPTION_FILE).write_text(description.model_dump_json(indent=1))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read the checkpoint in the folder `path`.

    Raises:
        CheckpointError: a file is missing, unreadable, or its digest is not the recorded one.
    """
    try:
        description = Description.model_validate_json((path / DESCRIPTION_FILE).read_bytes())
        digest = sha256_of_file(path / ARRAYS_FILE)
    except (OSError, ValidationError) as error:
        raise CheckpointError(f"The checkpoint {path} is incomplete or unreadable: {_first_line(error)}.") from None
    if digest != description.arrays_sha256:
        raise CheckpointError(
            f"The checkpoint {path} is damaged: {ARRAYS_FILE} has the SHA-256 {digest}, "
            f"expected {description.arrays_sha256}."
        )
    try:
        with np.load(path / ARRAYS_FILE, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"The checkpoint {path} is unreadable: {_first_line(error)}.") from None
    return Checkpoint(description, arrays, arrays.pop(GRIDS))


def newest_checkpoint(paths: Iterable[Path], configuration: Configuration) -> Checkpoint | None:
    """Return the first checkpoint of `paths` (newest first) that can be used; a damaged one is passed over.

    Raises:
        CheckpointError: a checkpoint belongs to another configuration.
    """
    return next(_usable(paths, configuration), None)


def _usable(paths: Iterable[Path], configuration: Configuration) -> Iterator[Checkpoint]:
    for path in paths:
        try:
            checkpoint = load_checkpoint(path)
        except CheckpointError as error:
            logger.warning("%s An older one is used.", error)
            continue
        if unlike := checkpoint.description.configuration.differences(configuration):
            raise CheckpointError(f"The checkpoint {path} belongs to another configuration: {', '.join(unlike)}.")
        yield checkpoint


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")
