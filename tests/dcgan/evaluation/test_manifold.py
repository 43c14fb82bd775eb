"""Density and coverage against their definition, written as loops, and against their known expectation."""

import numpy as np
import pytest

from dcgan.evaluation import metrics
from dcgan.evaluation.metrics import density_and_coverage, squared_radii


def _naive(generated, real, k):
    radii = [sorted(np.linalg.norm(x - y) for y in real)[k] for x in real]  # the 0th is the point itself
    inside = np.array([[np.linalg.norm(x - y) <= r for y in generated] for x, r in zip(real, radii, strict=True)])
    return radii, inside.sum() / (k * len(generated)), inside.any(axis=1).mean()


def _measure(generated, real, k=5):
    return density_and_coverage(generated, real, squared_radii(real, k), 50, k)


@pytest.mark.parametrize("k", [1, 5])
def test_they_agree_with_their_definition(k, monkeypatch):
    """Section 3.2 of Naeem et al., point by point, with the distances in several blocks."""
    monkeypatch.setattr(metrics, "BLOCK_ELEMENTS", 700)
    draw = np.random.default_rng(0)
    real, generated = draw.standard_normal((60, 3)), draw.standard_normal((80, 3)) * 0.8 + 0.2
    radii, density, coverage = _naive(generated, real, k)
    np.testing.assert_allclose(squared_radii(real, k), np.square(radii), rtol=1e-9)
    found = _measure(generated, real, k)
    assert (found[0].value, found[1].value) == (pytest.approx(density), pytest.approx(coverage))


def test_equal_distributions_have_the_expectation_of_lemma_2():
    """E[density] = 1 and E[coverage] = 1 - (N-1)…(N-k) / ((M+N-1)…(M+N-k)) in any space."""
    draw = np.random.default_rng(1)
    n, m, k = 300, 200, 5
    found = [_measure(draw.standard_normal((m, 4)), draw.standard_normal((n, 4))) for _ in range(60)]
    densities, coverages = ([estimate.value for estimate in column] for column in zip(*found, strict=True))
    expected = 1 - np.prod([(n - i) / (m + n - i) for i in range(1, k + 1)])
    assert np.mean(densities) == pytest.approx(1, abs=3 * np.std(densities) / np.sqrt(60))
    assert np.mean(coverages) == pytest.approx(expected, abs=3 * np.std(coverages) / np.sqrt(60))


def test_one_repeated_image_is_dense_but_covers_nothing():
    """Collapse shows in the coverage, not in the density."""
    draw = np.random.default_rng(2)
    real = draw.standard_normal((500, 4))
    density, coverage = _measure(np.tile(real[:1], (500, 1)), real)
    assert density.value > 0.5
    assert coverage.value < 0.1


def test_the_standard_errors_are_the_deviations_over_generated_samples():
    """Both predict, within a half, how much the metrics vary from one generated sample to the next."""
    draw = np.random.default_rng(3)
    real = draw.standard_normal((300, 4))
    found = [_measure(draw.standard_normal((300, 4)), real) for _ in range(60)]
    for column in zip(*found, strict=True):
        deviation = np.std([estimate.value for estimate in column], ddof=1)
        errors = [estimate.standard_error for estimate in column]
        assert np.mean(errors) == pytest.approx(deviation, rel=0.5)
