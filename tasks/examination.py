"""Looking at generators through both classifiers, against one data set, always with the same latents."""

from typing import TYPE_CHECKING, NamedTuple

from dcgan.dataset import Manifest
from dcgan.errors import ModelError
from tasks.evaluation import Figures
from tasks.references import reference_of
from tasks.settings import read_settings

if TYPE_CHECKING:
    from dcgan.generation import Generator
    from dcgan.quality.memorisation import Pairs

SEED = 0  # of the latents of every evaluation
PAIRS = 24  # of images and training images that are kept to be looked at


class Examined(NamedTuple):
    """The figures of a version, and those of its images that are nearest to being copies."""

    figures: Figures
    pairs: "Pairs"


class Examiner:
    """Evaluates one generator after another; what they are compared with is prepared once.

    A data set other than MNIST has its classifiers trained and its bounds measured the first time, in some minutes.

    Args:
        dataset: a prepared data set; its test half is compared with, its training half looked through for copies.

    Attributes:
        quality_bounds: what images of known quality get from the evaluator.
        judge_bounds: likewise, from the judge.

    Raises:
        DataError: the data set is damaged, or too small to evaluate anything.
    """

    def __init__(self, dataset: Manifest) -> None:
        from dcgan.dataset import check_split, load_split
        from dcgan.parquet import label_column
        from dcgan.parquet_images import ParquetImages
        from dcgan.quality.bounds import bounds_for
        from dcgan.quality.evaluator import BUNDLED
        from dcgan.quality.memorisation import prepare_held_out

        settings = read_settings()
        folder = settings.prepared / dataset.digest
        test_images, _ = load_split(folder, dataset, "test")
        path = check_split(folder, dataset, "train")
        self._count = len(test_images)
        self._held_out = prepare_held_out(ParquetImages(path), label_column(path), test_images)
        self._evaluator, self._judge = reference_of(dataset, "evaluator"), reference_of(dataset, "judge")
        self.quality_bounds, self.judge_bounds = (
            bounds_for(reference, self._held_out, test_images, BUNDLED, settings.evaluators / dataset.digest)
            for reference in (self._evaluator, self._judge)
        )

    def examine(self, version: int, generator: "Generator") -> Examined:
        """Look at as many images of a version as the test half has.

        Raises:
            ModelError: what it generates is no images.
        """
        import numpy as np

        from dcgan.generation import generated_batches
        from dcgan.quality.evaluation import evaluate
        from dcgan.quality.memorisation import closest_pairs, measure_copying
        from dcgan.randomness import Stream

        try:
            images = np.concatenate(list(generated_batches(generator, SEED, Stream.EVALUATION, self._count)))
        except ModelError as error:
            raise ModelError(f"Version {version} cannot be evaluated: {error}") from None
        copying = measure_copying(images, self._held_out)
        figures = Figures(
            version=version,
            quality=evaluate(images, self._evaluator, copying),
            judge=evaluate(images, self._judge, copying),
        )
        return Examined(figures, closest_pairs(images, copying.nearest, self._held_out, PAIRS))
