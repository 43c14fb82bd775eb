"""The generation task: pictures of a registered version, in a folder, in one grid, or in a Parquet file."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from pydantic import BaseModel, ConfigDict

from dcgan.errors import ModelError
from tasks.quiet import import_tensorflow
from tasks.settings import Settings, read_settings

if TYPE_CHECKING:
    import numpy as np

    from dcgan.gallery import Labeller
    from tasks.tracking.versions import Version

logger = logging.getLogger("dcgan.generate")

BATCHES_PER_LINE = 20


class Generated(BaseModel):
    """What was generated."""

    model_config = ConfigDict(frozen=True)

    version: int
    count: int
    seed: int
    out: Path


@task
def generate(name: int | str, count: int, seed: int, out: Path | None) -> Generated:
    """Write pictures of a version; the same seed gives the same, and a larger count begins with those of a smaller.

    Args:
        name: the version's number or alias.
        count: how many pictures.
        seed: of the latents.
        out: what `dcgan.gallery` takes; None = a grid under the state folder.

    Raises:
        ModelError: there is no such version, or it is not a generator that works.
        ConfigurationError: `out` cannot be written so.
        DataError: `out` cannot be written.
    """
    from dcgan.gallery import form_of, write_folder, write_grid, write_labelled
    from tasks.tracking.store import Store
    from tasks.tracking.versions import resolve

    settings = read_settings()
    store = Store(settings)
    version = resolve(store, name)
    place = out.expanduser().absolute() if out else _default_place(settings, version, count, seed)
    form = form_of(place, count)
    import_tensorflow()
    from dcgan.generation import generated_batches
    from dcgan.randomness import Stream
    from tasks.tracking.generators import load_generator

    batches = _logged(generated_batches(load_generator(store, version), seed, Stream.GENERATION, count), count)
    if form == "parquet":
        write_labelled(place, batches, _labeller(settings, version), _metadata(version, seed))
    elif form == "grid":
        write_grid(place, count, batches)
    else:
        write_folder(place, batches)
    logger.info("%d pictures of version %d are in %s.", count, version.number, place)
    return Generated(version=version.number, count=count, seed=seed, out=place)


def _default_place(settings: Settings, version: "Version", count: int, seed: int) -> Path:
    return settings.generated / f"version-{version.number}-seed-{seed}-count-{count}.png"


def _logged(batches: "Iterable[np.ndarray]", count: int) -> "Iterator[np.ndarray]":
    """Pass batches on, and say now and then how far it is."""
    done = 0
    for index, images in enumerate(batches, start=1):
        done += len(images)
        yield images
        if index % BATCHES_PER_LINE == 0:
            logger.info("%d of %d pictures.", done, count)


def _labeller(settings: Settings, version: "Version") -> "Labeller":
    """Return the function from images to the classes that the evaluator of the version's data set sees in them."""
    import numpy as np

    from dcgan.quality.evaluator import find_evaluator
    from tasks.tracking.runs import DATASET_DIGEST

    digest = version.tags.get(DATASET_DIGEST, "")
    evaluator = find_evaluator("evaluator", digest, settings.evaluators)
    if evaluator is None:
        raise ModelError(
            f"There is no evaluator to label the pictures of version {version.number}, whose data set is not MNIST; "
            f"expected python -m flows.evaluate --version {version.number} --source with that data set before."
        )
    return lambda images: evaluator.view(images).probabilities.argmax(axis=1).astype(np.uint8)


def _metadata(version: "Version", seed: int) -> dict[str, str]:
    """Return what a Parquet file says about itself, as those of prepared data sets do."""
    from tasks.tracking.store import MODEL_NAME

    return {
        "source": f"models:/{MODEL_NAME}/{version.number}",
        "seed": str(seed),
        "range": "[-1, 1]",
        "label": "the class that the evaluator finds most probable, not one that was asked for",
    }
