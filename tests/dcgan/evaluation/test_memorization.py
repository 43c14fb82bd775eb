"""Copies of training images are found, and other images are not taken for copies."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from dcgan.data.idx import MNIST_DIGEST, read_images, read_labels
from dcgan.data.parquet import ParquetImages, label_column, normalise, write_row_groups
from dcgan.errors import DataError
from dcgan.evaluation import memorization as module
from dcgan.evaluation.classifiers import BUNDLED
from dcgan.evaluation.memorization import (
    Limits,
    MemorizationReference,
    closest_pairs,
    measure_memorization,
    nearest_training,
    prepare_memorization_reference,
)


def test_the_nearest_training_image_is_the_nearest(train_split, test_images, monkeypatch):
    """SciPy's distances of all pairs, in float64, give the same rows and distances, whatever the blocks."""
    monkeypatch.setattr(module, "IMAGES_PER_BLOCK", 170)
    monkeypatch.setattr(module, "TRAINING_IMAGES_PER_BLOCK", 430)
    images, training = test_images[:400], train_split[0][:1000]
    every = cdist(images.reshape(400, -1).astype(np.float64), training.reshape(1000, -1).astype(np.float64))
    nearest = nearest_training(images, training)
    np.testing.assert_array_equal(nearest.rows, every.argmin(axis=1))
    np.testing.assert_allclose(nearest.distances, every.min(axis=1), rtol=1e-12)


def test_a_file_is_searched_like_an_array(train_split, test_images, tmp_path):
    """Training images in a Parquet file give the same rows, thresholds and images as in memory."""
    images, labels = (array[:5000] for array in train_split)
    path = tmp_path / "train.parquet"
    write_row_groups(path, ((images[i : i + 1900], labels[i : i + 1900]) for i in (0, 1900, 3800)), {})
    from_file = prepare_memorization_reference(ParquetImages(path), label_column(path), test_images)
    from_memory = prepare_memorization_reference(images, labels, test_images)
    np.testing.assert_allclose(from_file.thresholds, from_memory.thresholds, rtol=1e-12)
    copies = np.array([4999, 0, 1899, 1900])
    np.testing.assert_array_equal(from_file.training[copies], images[copies])
    found = nearest_training(images[copies], from_file.training)
    np.testing.assert_array_equal(found.rows, copies)
    np.testing.assert_array_equal(found.distances, 0)


def test_the_limits_are_measured_once(train_split, test_images, tmp_path):
    """A file in a folder is read if it is intact and of this dataset; else they are searched for again."""
    images, labels = (array[:1000] for array in train_split)
    other, cache = tmp_path / "other", tmp_path / "cache"

    def prepare(digest: str) -> MemorizationReference:
        return prepare_memorization_reference(images, labels, test_images, digest, [other, cache])

    measured = prepare("a" * 64)
    (path,) = cache.iterdir()
    limits = Limits.model_validate_json(path.read_bytes())
    assert (limits.median, limits.thresholds) == (measured.median, tuple(measured.thresholds))
    path.write_text(limits.model_copy(update={"median": 1.0}).model_dump_json())
    assert prepare("a" * 64).median == 1
    assert prepare("a" * 16 + "b" * 48).median == measured.median, "of another dataset, with the same name"
    path.write_text("{}")
    assert prepare("a" * 64).median == measured.median
    assert Limits.model_validate_json(path.read_bytes()) == limits
    assert not other.exists()


@pytest.mark.slow
def test_the_bundle_has_the_limits_of_mnist(mnist_folder, test_split):
    """They are those of the whole training set."""
    images = normalise(read_images(mnist_folder / "train-images-idx3-ubyte.gz"))
    labels = read_labels(mnist_folder / "train-labels-idx1-ubyte.gz")
    measured = prepare_memorization_reference(images, labels, test_split[0])
    bundled = prepare_memorization_reference(images, labels, test_split[0], MNIST_DIGEST, [BUNDLED])
    assert measured.median == pytest.approx(bundled.median, rel=1e-6)
    np.testing.assert_allclose(measured.thresholds, bundled.thresholds, rtol=1e-6)


def test_training_images_are_copies(memorization):
    """The training images themselves, and themselves with a little noise, are copies, each of its own row."""
    images = memorization.training[3000:4000]
    noise = 0.05 * np.random.default_rng(0).standard_normal(images.shape, dtype=np.float32)
    for copies in (images, np.clip(images + noise, -1, 1)):
        metrics = measure_memorization(copies, memorization)
        assert metrics.memorized.value > 0.99
        assert metrics.ratio.value < 0.2
        assert np.mean(metrics.nearest.rows == np.arange(3000, 4000)) > 0.99


def test_other_training_images_are_not_copies(train_split, memorization):
    """Training images that are not searched are as near as test images: one in a hundred counts as memorized."""
    metrics = measure_memorization(train_split[0][10_000:], memorization)
    assert metrics.memorized.value == pytest.approx(0.01, abs=4 * metrics.memorized.standard_error)
    assert metrics.ratio.value == pytest.approx(1, abs=0.05)


def test_half_of_the_images_are_copies(train_split, memorization):
    """The fraction is that of the copies."""
    mixed = np.concatenate([memorization.training[:1000], train_split[0][10_000:11_000]])
    assert measure_memorization(mixed, memorization).memorized.value == pytest.approx(0.5, abs=0.02)


def test_a_cell_without_test_images_uses_all_of_them(train_split, test_images):
    """A class that is nearest to no test image still has a threshold."""
    images, labels = train_split
    lacking = np.where(labels == 3, 4, labels)
    reference = prepare_memorization_reference(images[:2000], lacking[:2000], test_images)
    _, distances = nearest_training(test_images, images[:2000])
    assert reference.thresholds[3] == np.quantile(distances, 0.01)


@pytest.mark.parametrize("zeros", [1, 2, 3])
def test_a_class_that_is_rare_in_the_test_set_rejects_no_honest_image(train_split, zeros):
    """The few test images near to its training images are other digits, badly placed: their distances say nothing."""
    images, labels = train_split
    known, seen, unseen = slice(5000), slice(6000, 9000), slice(10_000, 12_000)
    zero = labels[seen] == 0
    tested = np.concatenate([images[seen][~zero], images[seen][zero][:zeros]])
    reference = prepare_memorization_reference(images[known], labels[known], tested)
    assert measure_memorization(images[unseen], reference).memorized.value < 0.02


def test_labels_are_needed(train_split, test_images):
    """Without labels there are no cells."""
    with pytest.raises(DataError, match="The training images have no labels; expected one label from 0 to 9 for each"):
        prepare_memorization_reference(train_split[0], None, test_images)


def test_the_closest_pairs_are_the_nearest_of_their_class(train_split, memorization):
    """Copies come first; the others are ordered by their distances relative to the thresholds of their cells."""
    images = np.concatenate([train_split[0][10_000:11_000], memorization.training[[5, 7]]])
    nearest = measure_memorization(images, memorization).nearest
    pairs = closest_pairs(images, nearest, memorization, 40)
    np.testing.assert_array_equal(pairs.images[:2], memorization.training[[5, 7]])
    np.testing.assert_array_equal(pairs.training[:2], memorization.training[[5, 7]])
    assert pairs.distances[:2].tolist() == [0, 0]
    relative = pairs.distances / pairs.thresholds
    assert relative.tolist() == sorted(relative)
    below = nearest.distances < memorization.thresholds[memorization.labels[nearest.rows]]
    assert sum(relative < 1) == min(40, sum(below))
    difference = (pairs.images - pairs.training).reshape(40, -1).astype(np.float64)
    np.testing.assert_allclose(pairs.distances, np.linalg.norm(difference, axis=1), rtol=1e-6)


def test_a_threshold_of_zero_orders_by_distance(train_split, test_images):
    """If test images are also training images, nothing is divided by zero, and equal images come first."""
    images, labels = train_split
    reference = prepare_memorization_reference(images[:1000], labels[:1000], images[:1000])
    assert reference.thresholds.max() == 0
    generated = np.concatenate([test_images[:50], images[:1]])
    pairs = closest_pairs(generated, nearest_training(generated, images[:1000]), reference, 99)
    assert len(pairs.distances) == 51
    assert pairs.distances.tolist() == sorted(pairs.distances)
    assert pairs.distances[0] == 0
