"""Reference baselines: images of known quality, and their metrics, measured like those of a generator."""

from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from dcgan.evaluation.cached import cached
from dcgan.evaluation.evaluate import Reference, evaluate
from dcgan.evaluation.memorization import MemorizationReference, measure_memorization
from dcgan.evaluation.report import Baselines, QualityReport
from dcgan.model.networks import build_generator
from dcgan.recipe import LATENT_SIZE

BLUR = 1.0  # standard deviation in pixels
NOISE = 0.3  # standard deviation; images span -1 to 1
SEED = 20_003
LATENTS_PER_CALL = 500


def blurred(images: np.ndarray) -> np.ndarray:
    """Return images float32 (n, 28, 28, 1) in [-1, 1] under a Gaussian blur of one pixel."""
    return np.clip(gaussian_filter(images, (0, BLUR, BLUR, 0)), -1, 1).astype(np.float32)


def noisy(images: np.ndarray) -> np.ndarray:
    """Return images float32 (n, 28, 28, 1) in [-1, 1] with Gaussian noise of 0.3 added, clipped to [-1, 1]."""
    noise = _random().standard_normal(images.shape, dtype=np.float32)
    return np.clip(images + np.float32(NOISE) * noise, -1, 1)


def untrained(count: int) -> np.ndarray:
    """Return images of a generator with its initial weights, float32 (count, 28, 28, 1) in [-1, 1]."""
    generator = build_generator(SEED)
    latents = _random().standard_normal((count, LATENT_SIZE), dtype=np.float32)
    batches = (latents[start : start + LATENTS_PER_CALL] for start in range(0, count, LATENTS_PER_CALL))
    return np.concatenate([np.asarray(generator(batch, training=False)) for batch in batches])


def _random() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(SEED))


def baselines_for(
    reference: Reference, memorization: MemorizationReference, test_images: np.ndarray, *folders: Path
) -> Baselines:
    """Return the baselines in one of `folders`, or measure them (in a minute or two) and save them in the last one.

    Args:
        reference: The test images in the features of one classifier.
        memorization: The training images, and how near the test images are to them.
        test_images: The test images of `reference`, float32 (n, 28, 28, 1) in [-1, 1].
        folders: Folders to search, in order; a file is used only if it is of the same classifier and test images.
    """
    expected = (reference.extractor.digest, reference.digest)
    return cached(
        f"baselines-{expected[0][:16]}-{expected[1][:16]}.json",
        folders,
        Baselines,
        lambda found: (found.train.classifier, found.train.reference) == expected,
        lambda: measure_baselines(reference, memorization, test_images),
    )


def measure_baselines(reference: Reference, memorization: MemorizationReference, test_images: np.ndarray) -> Baselines:
    """Return the baselines; each is of as many images as there are test images, or training images if these are fewer.

    The arguments are those of `baselines_for`.
    """
    count = len(test_images)
    order = _random().permutation(len(memorization.training))[:count]

    def report(images: np.ndarray) -> QualityReport:
        return evaluate(images, reference, measure_memorization(images, memorization))

    return Baselines(
        train=report(memorization.training[order]),
        noisy=report(noisy(test_images)),
        blurred=report(blurred(test_images)),
        untrained=report(untrained(count)),
    )
