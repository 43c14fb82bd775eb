"""Reports of real digits, good and bad."""

import math

import numpy as np
import pytest

from dcgan.errors import DataError
from dcgan.quality.evaluation import evaluate, evaluate_quickly, prepare_reference
from dcgan.quality.memorisation import measure_copying
from dcgan.quality.report import QualityReport, QuickReport
from dcgan.quality.worsened import blurred, noisy


@pytest.fixture(scope="module")
def report(train_half, held_out, reference) -> QualityReport:
    """The figures of 2,000 training images that are not among those searched for copies."""
    images = train_half[0][10_000:]
    return evaluate(images, reference, measure_copying(images, held_out))


def test_other_real_digits_are_nearly_perfect(report, train_half, test_images, evaluator):
    """Every figure of real digits is where it must be, and the report says what was measured with what."""
    assert (report.evaluator, report.images) == (evaluator.digest, 2000)
    assert report.reference == prepare_reference(evaluator, test_images.copy()).digest
    assert report.frechet_distance.value < 10
    assert abs(report.kernel_distance.value) < 5 * report.kernel_distance.noise
    assert report.missing_classes.value == 0
    assert report.class_divergence.value < 0.01
    assert report.confidence.value > 0.99
    assert report.density.value == pytest.approx(1, abs=0.15)
    assert report.coverage.value > 0.9
    assert report.copied_share.value < 0.05
    labels = np.bincount(train_half[1][10_000:])
    assert np.abs(np.array(report.class_counts) - labels).sum() < 20


def test_every_figure_has_a_noise(report):
    """All ten figures carry one, positive unless the figure is a count that cannot vary here."""
    assert len(report.estimates()) == 10
    assert all(estimate.noise > 0 for name, estimate in report.estimates().items() if name != "missing_classes")


def test_worse_images_have_worse_figures(report, test_images, reference):
    """A blur and noise move both distances far beyond their noise."""
    for images in (blurred(test_images), noisy(test_images)):
        worse = evaluate_quickly(images, reference)
        for figure in ("frechet_distance", "kernel_distance"):
            good, bad = report.estimates()[figure], worse.estimates()[figure]
            assert bad.value > good.value + 3 * math.hypot(good.noise, bad.noise)


def test_the_quick_figures_are_the_full_ones(report, train_half, reference):
    """They differ only in the number of bootstrap samples behind some noises."""
    quick = evaluate_quickly(train_half[0][10_000:], reference)
    for name, estimate in quick.estimates().items():
        assert estimate.value == report.estimates()[name].value
    assert quick.class_counts == report.class_counts


def test_the_same_images_give_the_same_report(train_half, reference):
    """No figure depends on anything but its arguments."""
    images = train_half[0][:1000]
    assert evaluate_quickly(images, reference) == evaluate_quickly(images.copy(), reference)


def test_a_report_goes_into_metrics_and_json_and_back(report):
    """Every figure, its noise and the classes' shares are metrics; JSON keeps every bit."""
    metrics = report.metrics()
    assert metrics["frechet_distance"] == report.frechet_distance.value
    assert metrics["coverage_noise"] == report.coverage.noise
    assert sum(metrics[f"class_{label}_share"] for label in range(10)) == pytest.approx(1)
    assert len(metrics) == 2 * 10 + 10
    assert QualityReport.model_validate_json(report.model_dump_json()) == report
    assert set(QuickReport.model_fields) < set(QualityReport.model_fields)


def test_what_cannot_be_evaluated_is_refused(test_images, reference, evaluator):
    """Too few images, wherever they come in."""
    with pytest.raises(DataError, match="There are 999 images to evaluate; expected at least 1000"):
        evaluate_quickly(test_images[:999], reference)
    with pytest.raises(DataError, match="There are 999 test images; expected at least 1000"):
        prepare_reference(evaluator, test_images[:999])
