"""Copies of training images are found, and images that are none are not taken for copies."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from dcgan.errors import DataError
from dcgan.parquet import label_column, write_row_groups
from dcgan.parquet_images import ParquetImages
from dcgan.quality import memorisation
from dcgan.quality.memorisation import closest_pairs, measure_copying, nearest_training, prepare_held_out


def test_the_nearest_training_image_is_the_nearest(train_half, test_images, monkeypatch):
    """Scipy's distances of every pair, in float64, give the same rows and distances; block borders do not show."""
    monkeypatch.setattr(memorisation, "ROWS_PER_BLOCK", 170)
    monkeypatch.setattr(memorisation, "COLUMNS_PER_BLOCK", 430)
    images, training = test_images[:400], train_half[0][:1000]
    every = cdist(images.reshape(400, -1).astype(np.float64), training.reshape(1000, -1).astype(np.float64))
    nearest = nearest_training(images, training)
    np.testing.assert_array_equal(nearest.rows, every.argmin(axis=1))
    np.testing.assert_allclose(nearest.distances, every.min(axis=1), rtol=1e-12)


def test_a_file_is_searched_like_an_array(train_half, test_images, tmp_path):
    """Training images in a Parquet file give the rows, thresholds and images that the same ones in memory give."""
    images, labels = (array[:5000] for array in train_half)
    path = tmp_path / "train.parquet"
    write_row_groups(path, ((images[i : i + 1900], labels[i : i + 1900]) for i in (0, 1900, 3800)), {})
    from_file = prepare_held_out(ParquetImages(path), label_column(path), test_images)
    from_memory = prepare_held_out(images, labels, test_images)
    np.testing.assert_allclose(from_file.thresholds, from_memory.thresholds, rtol=1e-12)
    copies = np.array([4999, 0, 1899, 1900])
    np.testing.assert_array_equal(from_file.training[copies], images[copies])
    found = nearest_training(images[copies], from_file.training)
    np.testing.assert_array_equal(found.rows, copies)
    np.testing.assert_array_equal(found.distances, 0)


def test_training_images_are_copies(held_out):
    """The training images themselves, and themselves with a little noise, are copies, each of its own row."""
    images = held_out.training[3000:4000]
    noise = 0.05 * np.random.default_rng(0).standard_normal(images.shape, dtype=np.float32)
    for copies in (images, np.clip(images + noise, -1, 1)):
        figures = measure_copying(copies, held_out)
        assert figures.copied.value > 0.99
        assert figures.ratio.value < 0.2
        assert np.mean(figures.nearest.rows == np.arange(3000, 4000)) > 0.99


def test_other_training_images_are_no_copies(train_half, held_out):
    """Training images that were kept out of the search lie as near as test images do: one in a hundred."""
    figures = measure_copying(train_half[0][10_000:], held_out)
    assert figures.copied.value == pytest.approx(0.01, abs=4 * figures.copied.noise)
    assert figures.ratio.value == pytest.approx(1, abs=0.05)


def test_half_copies_are_half_copies(train_half, held_out):
    """The share follows the number of copies."""
    mixed = np.concatenate([held_out.training[:1000], train_half[0][10_000:11_000]])
    assert measure_copying(mixed, held_out).copied.value == pytest.approx(0.5, abs=0.02)


def test_a_cell_without_held_out_images_uses_them_all(train_half, test_images):
    """A class that no held-out image is nearest to still has a threshold."""
    images, labels = train_half
    lacking = np.where(labels == 3, 4, labels)
    held_out = prepare_held_out(images[:2000], lacking[:2000], test_images)
    _, distances = nearest_training(test_images, images[:2000])
    assert held_out.thresholds[3] == np.quantile(distances, 0.01)


def test_labels_are_needed(train_half, test_images):
    """Without labels there are no cells: one sentence."""
    with pytest.raises(DataError, match="The training images have no labels; expected one label from 0 to 9 for each"):
        prepare_held_out(train_half[0], None, test_images)


def test_the_closest_pairs_are_the_nearest_of_their_kind(train_half, held_out):
    """Copies come first, each beside itself; then distances in parts of their cells' thresholds, smallest first."""
    images = np.concatenate([train_half[0][10_000:11_000], held_out.training[[5, 7]]])
    nearest = measure_copying(images, held_out).nearest
    pairs = closest_pairs(images, nearest, held_out, 40)
    np.testing.assert_array_equal(pairs.images[:2], held_out.training[[5, 7]])
    np.testing.assert_array_equal(pairs.training[:2], held_out.training[[5, 7]])
    assert pairs.distances[:2].tolist() == [0, 0]
    parts = pairs.distances / pairs.thresholds
    assert parts.tolist() == sorted(parts)
    below = nearest.distances < held_out.thresholds[held_out.labels[nearest.rows]]
    assert sum(parts < 1) == min(40, sum(below))
    difference = (pairs.images - pairs.training).reshape(40, -1).astype(np.float64)
    np.testing.assert_allclose(pairs.distances, np.linalg.norm(difference, axis=1), rtol=1e-6)


def test_a_threshold_of_zero_orders_by_distance(train_half, test_images):
    """Where test images are among the training images nothing is divided by zero: equal images come first."""
    images, labels = train_half
    held_out = prepare_held_out(images[:1000], labels[:1000], images[:1000])
    assert held_out.thresholds.max() == 0
    generated = np.concatenate([test_images[:50], images[:1]])
    pairs = closest_pairs(generated, nearest_training(generated, images[:1000]), held_out, 99)
    assert len(pairs.distances) == 51
    assert pairs.distances.tolist() == sorted(pairs.distances)
    assert pairs.distances[0] == 0
