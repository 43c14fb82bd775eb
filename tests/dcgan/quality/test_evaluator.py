"""The classifiers: accurate, unlike each other, made again bit for bit, and cached."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from dcgan.errors import DataError, ModelError
from dcgan.idx_set import read_idx_folder
from dcgan.quality.classifier_training import train_classifier
from dcgan.quality.classifiers import PLANS
from dcgan.quality.evaluator import BUNDLED, Evaluator, evaluator_for
from dcgan.quality.stored_weights import StoredWeights, load_weights


@pytest.mark.parametrize("role", PLANS)
def test_the_bundled_weights_get_992_of_a_thousand_right(role, test_half):
    """On all 10,000 real test images, and as many as their card says."""
    evaluator = Evaluator(load_weights(BUNDLED / f"{role}.npz"))
    accuracy = evaluator.accuracy(*test_half)
    assert accuracy >= 0.992
    assert accuracy == pytest.approx(evaluator.card.accuracy, abs=2e-4)  # another processor may round otherwise


def test_the_bundle_is_small_and_of_the_bundled_mnist():
    """Both files together stay below 1 MB, and their cards name the bundled data set."""
    files = [BUNDLED / f"{role}.npz" for role in PLANS]
    assert sum(file.stat().st_size for file in files) < 1_000_000
    digest = read_idx_folder(BUNDLED.parent / "mnist", "bundled").digest
    assert {load_weights(file).card.dataset_digest for file in files} == {digest}


def test_what_a_classifier_sees(evaluator, judge, test_half):
    """Features float64 of the promised sizes, probabilities that sum to 1, whatever the number of images."""
    for classifier, size in ((evaluator, 128), (judge, 96)):
        view = classifier.view(test_half[0][:1234])
        assert (view.features.shape, view.features.dtype) == ((1234, size), np.float64)
        assert view.probabilities.shape == (1234, 10)
        np.testing.assert_allclose(view.probabilities.sum(axis=1), 1, rtol=1e-12)
        np.testing.assert_allclose(classifier.view(test_half[0][1000:1001]).features[0], view.features[1000], rtol=1e-3)


def test_the_judge_is_another_network(evaluator, judge):
    """Other weights, other shapes, and other mistakes."""
    shapes = [{array.shape for array in load_weights(BUNDLED / f"{role}.npz").arrays.values()} for role in PLANS]
    assert evaluator.digest != judge.digest
    assert shapes[0] != shapes[1]


def test_a_global_dtype_policy_changes_nothing(evaluator, test_half):
    """Training in mixed precision does not change what the evaluator sees."""
    images = test_half[0][:50]
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = Evaluator(load_weights(BUNDLED / "evaluator.npz")).view(images)
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_array_equal(mixed.features, evaluator.view(images).features)


@pytest.mark.parametrize("role", PLANS)
def test_training_twice_gives_the_same_bits(role, train_half):
    """Three epochs of four steps, twice: every weight is equal, and none is where it began."""
    plan = replace(PLANS[role], epochs=3)
    images, labels = (array[: 4 * plan.batch_size + 5] for array in train_half)
    one, other = (train_classifier(plan, images, labels).get_weights() for _ in range(2))
    for first, second, initial in zip(one, other, plan.build(plan.seed).get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
        assert (first != initial).any()


def test_training_learns(train_half, test_half):
    """One epoch of 4,000 digits gets most of the test half right, so images and labels keep together."""
    plan = replace(PLANS["evaluator"], epochs=1, batch_size=40)
    model = train_classifier(plan, train_half[0][:4000], train_half[1][:4000])
    _, logits = model(test_half[0][::10], training=False)
    assert np.mean(np.argmax(logits, axis=1) == test_half[1][::10]) > 0.85


def test_mnist_has_the_bundled_weights(test_half, tmp_path):
    """For the bundled data set's digest nothing is trained and nothing is written."""
    digest = load_weights(BUNDLED / "judge.npz").card.dataset_digest
    found = evaluator_for("judge", digest, pytest.fail, test_half, tmp_path)
    assert found.card == load_weights(BUNDLED / "judge.npz").card
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_another_data_set_trains_its_own_once(train_half, test_half, tmp_path, caplog):
    """The weights are cached by the data set's digest; a damaged file is named and made again, the same."""
    train, test = (tuple(array[:1000] for array in half) for half in (train_half, test_half))
    first = evaluator_for("evaluator", "a" * 64, lambda: train, test, tmp_path)
    path = tmp_path / ("a" * 64) / "evaluator.npz"
    content = path.read_bytes()
    assert first.card.dataset_digest == "a" * 64
    assert first.card.accuracy == first.accuracy(*test)

    path.touch()
    time = path.stat().st_mtime_ns
    assert evaluator_for("evaluator", "a" * 64, lambda: train, test, tmp_path).card == first.card
    assert path.stat().st_mtime_ns == time

    path.write_bytes(content[:-100])
    with caplog.at_level("WARNING", "dcgan"):
        evaluator_for("evaluator", "a" * 64, lambda: train, test, tmp_path)
    assert "The evaluator that was kept is of no use: " in caplog.text
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == ["evaluator.npz"]


def test_a_data_set_without_labels_has_no_evaluator(train_half, test_half, tmp_path):
    """Labels absent: one sentence, nothing written."""
    with pytest.raises(DataError, match="The training images have no labels"):
        evaluator_for("evaluator", "b" * 64, lambda: (train_half[0], None), test_half, tmp_path)
    with pytest.raises(DataError, match="The test images have no labels"):
        evaluator_for("evaluator", "b" * 64, lambda: train_half, (test_half[0], None), tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_of_another_network_are_refused():
    """An unknown role, and the judge's weights under the evaluator's role: one sentence each."""
    judge = load_weights(BUNDLED / "judge.npz")
    for role, sentence in (
        ("critic", "of the role 'critic'; expected one of evaluator, judge"),
        ("evaluator", "other"),
    ):
        card = judge.card.model_copy(update={"role": role})
        with pytest.raises(ModelError, match=sentence):
            Evaluator(StoredWeights(card, judge.arrays))
