"""The generation task: images of a registered version, in a folder, in one grid, or in a Parquet file."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from dcgan.errors import ModelError
from dcgan.evaluation.classifiers import find_classifier
from dcgan.files import expanded
from dcgan.generation import Labeller, generated_batches, output_format, write_folder, write_grid, write_labelled
from dcgan.report.render import counted
from dcgan.rng import Stream
from tasks.context import Context
from tasks.prefect_ui import publish_generated
from tasks.results import Generated
from tracking.registry import Version, load_generator, model_uri, resolve

logger = logging.getLogger("dcgan.generate")

BATCHES_PER_LINE = 20


@task(cache_policy=NO_CACHE)
def generate(context: Context, name: int | str, count: int, seed: int, out: Path | None) -> Generated:
    """Write images of a version; the same seed gives the same ones, and a larger count begins with those of a smaller.

    Args:
        context: Settings and store.
        name: Number or alias of the version.
        count: Number of images.
        seed: Seed of the latents.
        out: The output path, as `dcgan.generation.output_format` reads it; None writes a grid under the state folder.

    Raises:
        ModelError: There is no such version, or it is not a working generator.
        ConfigurationError: `out` has another extension or is in use.
        DataError: `out` cannot be written.
    """
    version = resolve(context.store, name)
    default = context.settings.generated / f"version-{version.number}-seed-{seed}-count-{count}.png"
    path = expanded(out) if out else default
    format_ = output_format(path, count)
    generator = load_generator(context.store, version)
    first: list[np.ndarray] = []
    batches = _logged(generated_batches(generator, seed, Stream.GENERATION, count), count, first)
    if format_ == "parquet":
        write_labelled(path, batches, _labeller(context, version), _metadata(version, seed))
    elif format_ == "grid":
        write_grid(path, count, batches)
    else:
        write_folder(path, batches)
    logger.info("%s of version %d in %s.", counted(count, "image"), version.number, path)
    generated = Generated(version=version.number, count=count, seed=seed, out=path)
    publish_generated(generated, first[0])
    return generated


def _logged(batches: Iterable[np.ndarray], count: int, first: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the batches, keep the first in a list, and log the progress now and then."""
    done = 0
    for index, images in enumerate(batches, start=1):
        if not first:
            first.append(images)
        done += len(images)
        yield images
        if index % BATCHES_PER_LINE == 0:
            logger.info("%d of %d images.", done, count)


def _labeller(context: Context, version: Version) -> Labeller:
    """Return the function from images to the classes that the version's selection classifier finds most probable."""
    classifier = find_classifier("selection", version.dataset_digest or "", context.settings.classifiers)
    if classifier is None:
        raise ModelError(
            f"There is no classifier to label the images of version {version.number}, whose dataset is not MNIST; "
            f"expected 'dcgan evaluate --version {version.number}' first, which trains one."
        )
    return lambda images: classifier.extract(images).probabilities.argmax(axis=1).astype(np.uint8)


def _metadata(version: Version, seed: int) -> dict[str, str]:
    """Return the metadata of a Parquet file, like those of prepared datasets."""
    return {
        "source": model_uri(version.number),
        "seed": str(seed),
        "range": "[-1, 1]",
        "label": "the most probable class by the selection classifier, not one that was asked for",
    }
