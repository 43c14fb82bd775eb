"""What evaluations compare with: the test half of a prepared data set, as one of the two classifiers sees it."""

from typing import TYPE_CHECKING

from dcgan.dataset import Manifest
from tasks.settings import read_settings

if TYPE_CHECKING:
    from dcgan.quality.classifiers import Role
    from dcgan.quality.evaluation import Reference

CLASSIFIER_IMAGES = 100_000  # at most, of which a classifier is trained: they are in memory four times then


def reference_of(dataset: Manifest, role: "Role") -> "Reference":
    """Return the test half as the evaluator or the judge sees it; a data set that is new to it takes minutes once."""
    from dcgan.dataset import check_split, load_split
    from dcgan.parquet import sample_parquet
    from dcgan.quality.evaluation import prepare_reference
    from dcgan.quality.evaluator import evaluator_for

    settings = read_settings()
    folder = settings.prepared / dataset.digest
    test = load_split(folder, dataset, "test")
    viewer = evaluator_for(
        role,
        dataset.digest,
        lambda: sample_parquet(check_split(folder, dataset, "train"), CLASSIFIER_IMAGES),
        test,
        settings.evaluators,
    )
    return prepare_reference(viewer, test[0])
