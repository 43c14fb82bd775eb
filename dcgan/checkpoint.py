"""The whole state of a training after an epoch, as plain arrays and figures.

Its history holds the figures and the picture of every epoch so far, so it is also the journal from which a tracker can
be brought up to date.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from dcgan.provenance import Configuration, code_digest, environment

logger = logging.getLogger(__name__)


SELECTION = "frechet_distance"  # the metric by which the best epoch is chosen


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


def best_epoch(records: Iterable[EpochRecord]) -> int | None:
    """Return the epoch with the smallest Fréchet distance, the first of equals; None where none was evaluated."""
    evaluated = [record for record in records if SELECTION in record.metrics]
    return min(evaluated, key=lambda record: record.metrics[SELECTION]).epoch if evaluated else None


@dataclass(frozen=True)
class Checkpoint:
    """A training's state after `description.epoch` epochs.

    Attributes:
        description: counters, configuration, code, environment and the figures of every epoch so far.
        arrays: what `Gan.state()` gives, by name.
        grids: uint8 (epochs, height, width), the picture of every epoch so far.
        best: the weights of the best generator so far, as it was shown, by their paths; empty where none is kept.
    """

    description: Description
    arrays: dict[str, np.ndarray]
    grids: np.ndarray
    best: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def make(
        cls,
        configuration: Configuration,
        arrays: dict[str, np.ndarray],
        history: Iterable[tuple[EpochRecord, np.ndarray]],
        best: Mapping[str, np.ndarray] = MappingProxyType({}),
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
        return cls(description, arrays, np.stack(grids), best)

    @property
    def best_epoch(self) -> int | None:
        """The epoch with the smallest Fréchet distance so far, None where none was evaluated."""
        return best_epoch(self.description.records)

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
