"""The kernel distance against its definition, written as loops."""

import numpy as np
import pytest

from dcgan.evaluation.metrics import estimate_kernel_distance, squared_mmd


def _kernel(x, y):
    return (sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3


def _naive_mmd(one, other):
    def within(rows):
        n = len(rows)
        return sum(_kernel(rows[i], rows[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))

    across = sum(_kernel(x, y) for x in one for y in other) / (len(one) * len(other))
    return within(one) + within(other) - 2 * across


def test_it_agrees_with_its_definition():
    """Equation 3 of Gretton et al. with the cubic kernel, pair by pair, for sets of unequal size."""
    draw = np.random.default_rng(0)
    one, other = draw.standard_normal((17, 5)), draw.standard_normal((23, 5)) + 0.3
    assert squared_mmd(one, other) == pytest.approx(_naive_mmd(one.tolist(), other.tolist()), rel=1e-12)


def test_it_is_unbiased():
    """Over many samples of one distribution its mean is 0 within the error, and it is negative about half the time."""
    draw = np.random.default_rng(1)
    values = np.array([squared_mmd(draw.standard_normal((30, 6)), draw.standard_normal((20, 6))) for _ in range(2000)])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    assert 0.3 < np.mean(values < 0) < 0.8


def test_the_standard_error_is_the_deviation_over_independent_samples():
    """The standard error from the subsets of one sample predicts, within a third, the deviation between samples."""
    draw = np.random.default_rng(2)
    samples = [(draw.standard_normal((500, 6)) + 0.2, draw.standard_normal((600, 6))) for _ in range(100)]
    estimates = [estimate_kernel_distance(*sample) for sample in samples]
    deviation = np.std([estimate.value for estimate in estimates], ddof=1)
    errors = np.array([estimate.standard_error for estimate in estimates])
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(deviation, rel=1 / 3)


def test_the_order_of_the_rows_does_not_matter():
    """A set sorted by a feature, as the test images are by writer, has the standard error of a shuffled one."""
    draw = np.random.default_rng(3)
    features, reference = draw.standard_normal((1000, 6)), draw.standard_normal((1000, 6))
    shuffled = estimate_kernel_distance(features, reference)
    in_order = estimate_kernel_distance(features, reference[reference[:, 0].argsort()])
    assert in_order.standard_error < 2 * shuffled.standard_error
