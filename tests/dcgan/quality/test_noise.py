"""Estimates and their noise."""

import numpy as np
import pytest
from pydantic import ValidationError

from dcgan.quality.noise import Estimate, bootstrap_counts, mean_of, with_bootstrap


def test_the_noise_of_a_mean_is_its_standard_error():
    """The closed form: mean and s / √n of 1, 2, 3, 4."""
    assert mean_of(np.array([1, 2, 3, 4])).value == 2.5
    assert mean_of(np.array([1, 2, 3, 4])).noise == pytest.approx(np.sqrt(5 / 3) / 2)


def test_what_does_not_vary_has_no_noise():
    """Exactly none: the mean of equal values may round, their spread does not."""
    assert mean_of(np.full(1000, 0.1)).noise == 0
    assert with_bootstrap(0.1, [0.1] * 50).noise == 0


def test_a_bootstrap_sample_draws_as_many_rows_as_there_are():
    """Each sample's counts sum to the rows, and the same arguments give the same draws."""
    counts = bootstrap_counts(300, 7)
    assert counts.shape == (7, 300)
    assert (counts.sum(axis=1) == 300).all()
    np.testing.assert_array_equal(counts, bootstrap_counts(300, 7))
    assert len(np.unique(counts, axis=0)) == 7


def test_the_bootstrap_finds_the_noise_of_a_mean():
    """On a figure whose noise has a closed form, the bootstrap gives it within a tenth."""
    values = np.random.default_rng(0).exponential(size=2000)
    replicates = (counts @ values / 2000 for counts in bootstrap_counts(2000, 400))
    assert with_bootstrap(values.mean(), replicates).noise == pytest.approx(mean_of(values).noise, rel=0.1)


@pytest.mark.parametrize("fields", [{"value": float("nan"), "noise": 0}, {"value": 0, "noise": -1}])
def test_an_estimate_is_a_finite_number_with_a_noise_that_is_not_negative(fields):
    """A figure that is not finite never gets into a report."""
    with pytest.raises(ValidationError):
        Estimate(**fields)


def test_an_estimate_reads_as_value_and_noise():
    """What verdicts show."""
    assert str(Estimate(value=24.1234, noise=0.4567)) == "24.12 ± 0.46"
