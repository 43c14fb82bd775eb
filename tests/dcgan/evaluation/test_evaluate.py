"""Reports of real digits, good and bad."""

import math

import keras
import numpy as np
import pytest
from keras.initializers import GlorotUniform

from dcgan.errors import DataError
from dcgan.evaluation.baselines import blurred, noisy
from dcgan.evaluation.evaluate import METRICS, epoch_evaluator, evaluate, evaluate_quickly, prepare_reference
from dcgan.evaluation.gate import decide
from dcgan.evaluation.memorization import measure_memorization
from dcgan.evaluation.report import QualityReport, QuickReport


@pytest.fixture(scope="module")
def report(train_split, memorization, reference) -> QualityReport:
    """The report of 2,000 training images that are not among those searched for copies."""
    images = train_split[0][10_000:]
    return evaluate(images, reference, measure_memorization(images, memorization))


def test_other_real_digits_are_nearly_perfect(report, train_split, test_images, test_labels, selection):
    """All metrics of real digits are where they must be, and the report says what they were measured with."""
    assert (report.classifier, report.images) == (selection.digest, 2000)
    assert report.reference == prepare_reference(selection, test_images.copy(), test_labels).digest
    assert report.frechet_distance.value < 10
    assert abs(report.kernel_distance.value) < 5 * report.kernel_distance.standard_error
    assert report.missing_classes.value == 0
    assert report.class_divergence.value < 0.01
    assert report.confidence.value > 0.99
    assert report.density.value == pytest.approx(1, abs=0.15)
    assert report.coverage.value > 0.9
    assert report.memorized_fraction.value < 0.05
    labels = np.bincount(train_split[1][10_000:])
    assert np.abs(np.array(report.class_counts) - labels).sum() < 20


def test_digits_0_to_4_are_complete_beside_their_own_kind(
    train_split, test_split, memorization, selection, bundled_baselines
):
    """Classes are compared with those of the test images: real digits 0 to 4 pass the gate where these are 0 to 4."""

    def with_labels_below_5(images, labels):
        rows = labels < 5
        return images[rows], labels[rows]

    images, _ = with_labels_below_5(*(half[10_000:] for half in train_split))
    five = evaluate(
        images,
        prepare_reference(selection, *with_labels_below_5(*test_split)),
        measure_memorization(images, memorization),
    )
    assert (five.missing_classes.value, five.reference_class_counts[5:]) == (0, (0,) * 5)
    assert five.class_divergence.value < 0.02
    assert decide(five, None, bundled_baselines).passed


def test_all_metrics_have_a_standard_error(report):
    """All ten are positive, except for a count that cannot vary here."""
    assert len(report.estimates()) == 10
    errors = {name: estimate.standard_error for name, estimate in report.estimates().items()}
    assert all(error > 0 for name, error in errors.items() if name != "missing_classes")


def test_worse_images_have_worse_metrics(report, test_images, reference):
    """A blur and noise move both distances far beyond their standard errors."""
    for images in (blurred(test_images), noisy(test_images)):
        worse = evaluate_quickly(images, reference)
        for metric in ("frechet_distance", "kernel_distance"):
            good, bad = report.estimates()[metric], worse.estimates()[metric]
            assert bad.value > good.value + 3 * math.hypot(good.standard_error, bad.standard_error)


def test_the_quick_metrics_are_the_full_ones(report, train_split, reference):
    """They differ only in the number of bootstrap samples behind some standard errors."""
    quick = evaluate_quickly(train_split[0][10_000:], reference)
    for name, estimate in quick.estimates().items():
        assert estimate.value == report.estimates()[name].value
    assert quick.class_counts == report.class_counts


def test_the_same_images_give_the_same_report(train_split, reference):
    """No metric depends on anything but its arguments."""
    images = train_split[0][:1000]
    assert evaluate_quickly(images, reference) == evaluate_quickly(images.copy(), reference)


def test_a_report_converts_to_metrics_and_to_json_and_back(report):
    """Metrics have every value; JSON keeps every bit, the standard errors and the class counts too."""
    metrics = report.metrics()
    assert metrics["frechet_distance"] == report.frechet_distance.value
    assert len(metrics) == 10
    assert QualityReport.model_validate_json(report.model_dump_json()) == report
    assert set(QuickReport.model_fields) < set(QualityReport.model_fields)


def _generator(seed):
    layers = [keras.Input((100,)), keras.layers.Dense(784, "tanh", kernel_initializer=GlorotUniform(seed))]
    return keras.Sequential([*layers, keras.layers.Reshape((28, 28, 1))])


def test_the_evaluator_of_epochs(reference):
    """A generator gets the recorded metrics, the same at every call; another gets others."""
    evaluate_generator = epoch_evaluator(reference, images=1200)
    metrics = evaluate_generator(_generator(0))
    assert metrics.keys() == set(METRICS)
    assert metrics["frechet_distance"] > 100
    assert evaluate_generator(_generator(0)) == metrics
    assert evaluate_generator(_generator(1)) != metrics


def test_too_few_images_are_refused(test_images, test_labels, reference, selection):
    """Both generated and test images."""
    with pytest.raises(DataError, match="There are 999 images to evaluate; expected at least 1000"):
        evaluate_quickly(test_images[:999], reference)
    with pytest.raises(DataError, match="There are 999 test images; expected at least 1000"):
        prepare_reference(selection, test_images[:999], test_labels[:999])
