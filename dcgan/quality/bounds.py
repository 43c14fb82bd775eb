"""What stands beside every figure: its floor and its ceilings, measured like a generator's own."""

import logging
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dcgan.files import atomic_file
from dcgan.quality.evaluation import Reference, evaluate
from dcgan.quality.memorisation import HeldOut, measure_copying
from dcgan.quality.report import QualityReport
from dcgan.quality.worsened import SEED, blurred, noisy, untrained

logger = logging.getLogger(__name__)


class Bounds(BaseModel):
    """Reports of images of known quality, of one classifier and one test half, equally many each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    floor: QualityReport = Field(description="training images: the best that is possible, but all of them copies")
    blurred: QualityReport = Field(description="test images under a blur")
    noisy: QualityReport = Field(description="test images under noise")
    untrained: QualityReport = Field(description="what a generator makes before its training")


def bounds_for(reference: Reference, held_out: HeldOut, test_images: np.ndarray, *folders: Path) -> Bounds:
    """Return the bounds that one of `folders` holds, or measure them (a minute or two) and keep them in the last one.

    Args:
        reference: the test half, as one classifier sees it.
        held_out: the training images, and how near the test images lie to them.
        test_images: float32 (n, 28, 28, 1) in [-1, 1], those of `reference`.
        folders: where to look, in order; a file there is used only if it is of the same classifier and test half.
    """
    name = f"bounds-{reference.viewer.digest[:16]}-{reference.digest[:16]}.json"
    for folder in folders:
        if (found := _read(folder / name, reference)) is not None:
            return found
    bounds = measure_bounds(reference, held_out, test_images)
    save_bounds(folders[-1] / name, bounds)
    return bounds


def measure_bounds(reference: Reference, held_out: HeldOut, test_images: np.ndarray) -> Bounds:
    """Return the bounds, each from as many images as there are test images (or as few as there are training images)."""
    count = len(test_images)
    order = np.random.Generator(np.random.Philox(SEED)).permutation(len(held_out.training))[:count]

    def report(images: np.ndarray) -> QualityReport:
        return evaluate(images, reference, measure_copying(images, held_out))

    return Bounds(
        floor=report(held_out.training[order]),
        blurred=report(blurred(test_images)),
        noisy=report(noisy(test_images)),
        untrained=report(untrained(count)),
    )


def save_bounds(path: Path, bounds: Bounds) -> None:
    """Write `bounds` to `path` as JSON, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(bounds.model_dump_json(indent=1) + "\n")


def _read(path: Path, reference: Reference) -> Bounds | None:
    try:
        bounds = Bounds.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        logger.warning("%s cannot be read; the bounds are measured again.", path)
        return None
    known = bounds.floor.evaluator == reference.viewer.digest and bounds.floor.reference == reference.digest
    return bounds if known else None
