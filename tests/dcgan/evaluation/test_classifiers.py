"""The classifiers: accurate, unlike each other, reproducible bit for bit, and cached."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from dcgan.data.idx import read_idx_folder
from dcgan.errors import DataError, ModelError
from dcgan.evaluation.classifiers import (
    BUNDLED,
    CONFIGS,
    Classifier,
    StoredWeights,
    classifier_for,
    load_weights,
    train_classifier,
)

# identify the bundled weights in every evaluation that was recorded with them
DIGESTS = {
    "selection": "092a72d899554ba2f55af2bd087ee131d13433299cc413da76a106b8994ef125",
    "held_out": "bf96c1b8929b2df658737dee82b73871476706ccb9a968b0524856f82f63d720",
}


@pytest.mark.parametrize("role", CONFIGS)
def test_the_bundled_classifiers_are_accurate(role, test_split):
    """At least 99.2 % on all 10,000 real test images, and as much as their metadata says."""
    classifier = Classifier(load_weights(BUNDLED / f"{role}.npz"))
    accuracy = classifier.accuracy(*test_split)
    assert accuracy >= 0.992
    assert accuracy == pytest.approx(classifier.metadata.accuracy, abs=2e-4)  # another processor may round differently
    assert (classifier.metadata.role, classifier.digest) == (role, DIGESTS[role])


def test_the_bundle_is_small_and_of_the_bundled_mnist(mnist_folder):
    """Both files together are below 1 MB, and their metadata names the bundled dataset."""
    files = [BUNDLED / f"{role}.npz" for role in CONFIGS]
    assert sum(file.stat().st_size for file in files) < 1_000_000
    digest = read_idx_folder(mnist_folder, "bundled").digest
    assert {load_weights(file).metadata.dataset_digest for file in files} == {digest}


def test_features(selection, held_out, test_split):
    """float64 vectors of the documented sizes, probabilities that sum to 1, for any number of images."""
    images = test_split[0]
    for classifier, size in ((selection, 128), (held_out, 96)):
        features = classifier.extract(images[:1234])
        assert (features.vectors.shape, features.vectors.dtype) == ((1234, size), np.float64)
        assert features.probabilities.shape == (1234, 10)
        np.testing.assert_allclose(features.probabilities.sum(axis=1), 1, rtol=1e-12)
        np.testing.assert_allclose(classifier.extract(images[1000:1001]).vectors[0], features.vectors[1000], rtol=1e-3)


def test_the_held_out_classifier_is_another_network(selection, held_out):
    """Other weights and other shapes."""
    shapes = [{array.shape for array in load_weights(BUNDLED / f"{role}.npz").arrays.values()} for role in CONFIGS]
    assert selection.digest != held_out.digest
    assert shapes[0] != shapes[1]


def test_a_global_dtype_policy_changes_nothing(selection, test_split):
    """Training in mixed precision does not change the features."""
    images = test_split[0][:50]
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = Classifier(load_weights(BUNDLED / "selection.npz")).extract(images)
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_array_equal(mixed.vectors, selection.extract(images).vectors)


@pytest.mark.parametrize("role", CONFIGS)
def test_training_twice_gives_the_same_bits(role, train_split):
    """Three epochs of four steps, twice: all weights are equal, and all differ from the initial ones."""
    config = replace(CONFIGS[role], epochs=3)
    images, labels = (array[: 4 * config.batch_size + 5] for array in train_split)
    one, other = (train_classifier(config, images, labels).get_weights() for _ in range(2))
    for first, second, initial in zip(one, other, config.build(config.seed).get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
        assert (first != initial).any()


def test_training_learns(train_split, test_split):
    """One epoch of 4,000 digits classifies most test images, so each image keeps its label."""
    config = replace(CONFIGS["selection"], epochs=1, batch_size=40)
    model = train_classifier(config, train_split[0][:4000], train_split[1][:4000])
    _, logits = model(test_split[0][::10], training=False)
    assert np.mean(np.argmax(logits, axis=1) == test_split[1][::10]) > 0.85


def test_mnist_has_the_bundled_weights(test_split, tmp_path):
    """For the digest of the bundled dataset nothing is trained and nothing is written."""
    metadata = load_weights(BUNDLED / "held_out.npz").metadata
    found = classifier_for("held_out", metadata.dataset_digest, pytest.fail, test_split, tmp_path)
    assert found.metadata == metadata
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_another_dataset_trains_its_own_once(train_split, test_split, tmp_path, caplog):
    """The weights are cached under the digest of the dataset; a damaged file is reported and made again, the same."""
    train, test = (tuple(array[:1000] for array in split) for split in (train_split, test_split))
    first = classifier_for("selection", "a" * 64, lambda: train, test, tmp_path)
    path = tmp_path / ("a" * 64) / "selection.npz"
    content = path.read_bytes()
    assert first.metadata.dataset_digest == "a" * 64
    assert first.metadata.accuracy == first.accuracy(*test)

    path.touch()
    time = path.stat().st_mtime_ns
    assert classifier_for("selection", "a" * 64, lambda: train, test, tmp_path).metadata == first.metadata
    assert path.stat().st_mtime_ns == time

    path.write_bytes(content[:-100])
    with caplog.at_level("WARNING", "dcgan"):
        classifier_for("selection", "a" * 64, lambda: train, test, tmp_path)
    assert "The cached selection classifier is unusable and is trained again: " in caplog.text
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == ["selection.npz"]


def test_a_dataset_without_labels_has_no_classifier(train_split, test_split, tmp_path):
    """Absent labels give one sentence, and nothing is written."""
    with pytest.raises(DataError, match="The training images have no labels"):
        classifier_for("selection", "b" * 64, lambda: (train_split[0], None), test_split, tmp_path)
    with pytest.raises(DataError, match="The test images have no labels"):
        classifier_for("selection", "b" * 64, lambda: train_split, (test_split[0], None), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("role", "sentence"),
    [
        ("critic", "The weights are for the role 'critic'; expected one of selection, held_out."),
        ("selection", "The weights are not those of this version's selection classifier: they have other names or "),
    ],
)
def test_weights_of_another_network_are_refused(role, sentence):
    """An unknown role, and the held-out classifier's weights under the selection classifier's role."""
    stored = load_weights(BUNDLED / "held_out.npz")
    metadata = stored.metadata.model_copy(update={"role": role})
    with pytest.raises(ModelError) as caught:
        Classifier(StoredWeights(metadata, stored.arrays))
    assert str(caught.value).startswith(sentence)
