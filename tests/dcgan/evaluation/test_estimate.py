"""Estimates and their standard errors."""

import numpy as np
import pytest
from pydantic import ValidationError

from dcgan.evaluation.metrics import Estimate, bootstrap_counts, bootstrap_estimate, mean_estimate


def test_the_standard_error_of_a_mean():
    """The closed form: mean and s / √n of 1, 2, 3, 4."""
    estimate = mean_estimate(np.array([1, 2, 3, 4]))
    assert estimate.value == 2.5
    assert estimate.standard_error == pytest.approx(np.sqrt(5 / 3) / 2)


def test_equal_values_have_no_standard_error():
    """Exactly none, although the mean of equal values may round."""
    assert mean_estimate(np.full(1000, 0.1)).standard_error == 0
    assert bootstrap_estimate(0.1, [0.1] * 50).standard_error == 0


def test_a_bootstrap_sample_draws_as_many_rows_as_there_are():
    """The counts of each sample sum to the rows, and the same arguments give the same draws."""
    counts = bootstrap_counts(300, 7)
    assert counts.shape == (7, 300)
    assert (counts.sum(axis=1) == 300).all()
    np.testing.assert_array_equal(counts, bootstrap_counts(300, 7))
    assert len(np.unique(counts, axis=0)) == 7


def test_the_bootstrap_finds_the_standard_error_of_a_mean():
    """Where there is a closed form, the bootstrap agrees with it within a tenth."""
    values = np.random.default_rng(0).exponential(size=2000)
    replicates = (counts @ values / 2000 for counts in bootstrap_counts(2000, 400))
    expected = mean_estimate(values).standard_error
    assert bootstrap_estimate(values.mean(), replicates).standard_error == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("fields", [{"value": float("nan"), "standard_error": 0}, {"value": 0, "standard_error": -1}])
def test_an_estimate_is_finite_and_its_standard_error_is_not_negative(fields):
    """A value that is not finite never gets into a report."""
    with pytest.raises(ValidationError):
        Estimate(**fields)


def test_an_estimate_as_text():
    """What verdicts show."""
    assert str(Estimate(value=24.1234, standard_error=0.4567)) == "24.12 ± 0.46"
