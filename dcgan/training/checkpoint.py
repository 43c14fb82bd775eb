"""The complete state of a training run after an epoch, as plain arrays and metrics, and as a folder of files.

Its history has the metrics and the sample grid of every epoch so far, so it is also the journal from which a tracker is
brought up to date.

A folder has `arrays.npz` (every array by its name), `checkpoint.json` (the rest) and `checkpoint.sha256` (the digests
of both, in the format of `sha256sum --check`). It is written completely or not at all, verified by its digests, and
read without pickles.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from dcgan.errors import CheckpointError, first_problem
from dcgan.files import UNREADABLE_ARRAYS, atomic_folder, first_line, sha256_of_file
from dcgan.provenance import Configuration, code_digest, environment
from dcgan.recipe import Recipe

logger = logging.getLogger(__name__)

SELECTION_METRIC = "frechet_distance"

ARRAYS_FILE = "arrays.npz"
METADATA_FILE = "checkpoint.json"
DIGESTS_FILE = "checkpoint.sha256"
GRIDS = "history/grids"
SELECTED = "selected/"


class EpochRecord(BaseModel):
    """The metrics of one epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    step: int
    finished_at: float
    metrics: dict[str, float]


class CheckpointMetadata(BaseModel):
    """The content of `checkpoint.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    step: int
    configuration: Configuration
    code_digest: str
    environment: dict[str, str]
    records: tuple[EpochRecord, ...]


def best_epoch(records: Iterable[EpochRecord]) -> int | None:
    """Return the epoch with the lowest Fréchet distance, the first of equals; None where none was evaluated."""
    evaluated = [record for record in records if SELECTION_METRIC in record.metrics]
    return min(evaluated, key=lambda record: record.metrics[SELECTION_METRIC]).epoch if evaluated else None


def selected_epoch(recipe: Recipe, records: Sequence[EpochRecord]) -> int:
    """Return the epoch whose generator is registered: the best where the recipe asks for it, else the last."""
    best = best_epoch(records) if recipe.checkpoint_selection == "best" else None
    return best or records[-1].epoch


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training run after `metadata.epoch` epochs.

    Attributes:
        metadata: Counters, configuration, code, environment and the metrics of every epoch so far.
        arrays: What `Gan.state()` returns, by name.
        grids: Sample grid of every epoch so far, uint8 (epochs, height, width).
        selected_weights: Weights of the EMA generator to register, that of the selected epoch, by their paths.
    """

    metadata: CheckpointMetadata
    arrays: dict[str, np.ndarray]
    grids: np.ndarray
    selected_weights: Mapping[str, np.ndarray]

    @classmethod
    def make(
        cls,
        configuration: Configuration,
        arrays: dict[str, np.ndarray],
        history: Iterable[tuple[EpochRecord, np.ndarray]],
        selected_weights: Mapping[str, np.ndarray],
    ) -> Self:
        """Return the checkpoint after the last epoch of `history`, made by this code on this machine."""
        records, grids = zip(*history, strict=True)
        metadata = CheckpointMetadata(
            epoch=records[-1].epoch,
            step=records[-1].step,
            configuration=configuration,
            code_digest=code_digest(),
            environment=dict(environment()),
            records=records,
        )
        return cls(metadata, arrays, np.stack(grids), selected_weights)

    @property
    def best_epoch(self) -> int | None:
        """The epoch with the lowest Fréchet distance so far, None where none was evaluated."""
        return best_epoch(self.metadata.records)

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return self.metadata.epoch

    @property
    def selected(self) -> EpochRecord:
        """The record of the epoch whose generator is registered."""
        records = self.metadata.records
        return records[selected_epoch(self.metadata.configuration.recipe, records) - 1]

    def weights_sha256(self) -> str:
        """Return the SHA-256 of the weights: generator, then discriminator, float32 little-endian, in layer order."""
        digest = hashlib.sha256()
        for network in ("generator/", "discriminator/"):
            for name, array in self.arrays.items():
                if name.startswith(network):
                    digest.update(np.ascontiguousarray(array, "<f4").tobytes())
        return digest.hexdigest()

    def warn_if_inexact(self) -> list[str]:
        """Return, and log, why resuming from here may not give the bits of an uninterrupted training run."""
        here = environment()
        there = self.metadata.environment
        reasons = [f"{name} was {there.get(name)}, is {here[name]}" for name in here if here[name] != there.get(name)]
        if self.metadata.code_digest != code_digest():
            reasons.append("the library's code has changed")
        if reasons:
            logger.warning("Resuming from epoch %d is not exact: %s.", self.epoch, "; ".join(reasons))
        return reasons


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint as the folder `path`, which appears complete or not at all.

    Raises:
        CheckpointError: It cannot be written, as on a full disk; what was there before stays.
    """
    try:
        with atomic_folder(path) as folder:
            selected = {f"{SELECTED}{name}": array for name, array in checkpoint.selected_weights.items()}
            arrays = {**checkpoint.arrays, **selected, GRIDS: checkpoint.grids}
            np.savez(folder / ARRAYS_FILE, allow_pickle=False, **arrays)
            (folder / METADATA_FILE).write_text(checkpoint.metadata.model_dump_json(indent=1), encoding="utf-8")
            (folder / DIGESTS_FILE).write_text(_digests(folder), encoding="utf-8")
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise CheckpointError(
            f"The checkpoint {path} cannot be written: {reason}; earlier checkpoints are intact."
        ) from None


def load_checkpoint(path: Path) -> Checkpoint:
    """Read the checkpoint in the folder `path`.

    Raises:
        CheckpointError: A file is missing, unreadable, or its digest is not the recorded one.
    """
    try:
        _require_digests(path)
        metadata = CheckpointMetadata.model_validate_json((path / METADATA_FILE).read_bytes())
        arrays = _read_arrays(path / ARRAYS_FILE)
    except ValidationError as error:
        raise CheckpointError(
            f"The checkpoint {path} is not of this version: {first_problem(error, METADATA_FILE)}."
        ) from None
    except UNREADABLE_ARRAYS as error:
        raise CheckpointError(f"The checkpoint {path} is incomplete or unreadable: {first_line(error)}.") from None
    records, grids = metadata.records, arrays.pop(GRIDS, np.empty(0))
    if grids.ndim != 3 or not len(grids) == len(records) == metadata.epoch:
        raise CheckpointError(
            f"The checkpoint {path} is inconsistent: it has {len(records)} records and grids {grids.shape}, "
            f"expected {metadata.epoch} of each."
        )
    selected = {name.removeprefix(SELECTED): arrays.pop(name) for name in list(arrays) if name.startswith(SELECTED)}
    if not selected:
        raise CheckpointError(f"The checkpoint {path} is not of this version: it has no generator to register.")
    return Checkpoint(metadata, arrays, grids, selected)


def newest_checkpoint(paths: Iterable[Path], configuration: Configuration) -> Checkpoint | None:
    """Return the first usable checkpoint of `paths`, which are ordered newest first; damaged ones are skipped.

    Raises:
        CheckpointError: A checkpoint belongs to another configuration.
    """
    return next(_usable(paths, configuration), None)


def _usable(paths: Iterable[Path], configuration: Configuration) -> Iterator[Checkpoint]:
    for path in paths:
        try:
            checkpoint = load_checkpoint(path)
        except CheckpointError as error:
            logger.warning("%s It is skipped.", error)
            continue
        if differing := checkpoint.metadata.configuration.differences(configuration):
            raise CheckpointError(f"The checkpoint {path} belongs to another configuration: {', '.join(differing)}.")
        yield checkpoint


def _digests(folder: Path) -> str:
    return "".join(f"{sha256_of_file(folder / name)}  {name}\n" for name in (ARRAYS_FILE, METADATA_FILE))


def _require_digests(path: Path) -> None:
    recorded = (path / DIGESTS_FILE).read_text(encoding="utf-8").splitlines()
    for line in _digests(path).splitlines():
        if line not in recorded:
            digest, name = line.split()
            raise CheckpointError(
                f"The checkpoint {path} is damaged: {name} has the SHA-256 {digest}, not the one in {DIGESTS_FILE}."
            )


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: np.asarray(file[name]) for name in file.files}
