"""Figures with the noise of their own estimate."""

import math
from collections.abc import Iterable

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

BOOTSTRAP_SEED = 20_000


class Estimate(BaseModel):
    """A figure and the standard error with which finitely many images give it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    value: float
    noise: float = Field(ge=0, description="one standard error")

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.noise:.2g}"


def mean_of(values: np.ndarray) -> Estimate:
    """Return the mean of independent values (n,), n >= 2, and its standard error, s / √n."""
    return Estimate(value=float(np.mean(values)), noise=_spread(values) / math.sqrt(len(values)))


def with_bootstrap(value: float, replicates: Iterable[float]) -> Estimate:
    """Return `value` with the standard deviation of its bootstrap replicates as its noise.

    Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7 (1979), section 2. Only their
    spread is used: the mean of a distance's replicates is biased upward, once more by the bias of the distance itself.
    """
    return Estimate(value=float(value), noise=_spread(np.fromiter(replicates, np.float64)))


def bootstrap_counts(rows: int, replicates: int) -> np.ndarray:
    """Return how often each row is drawn in each bootstrap sample: int64 (replicates, rows), each row's sum `rows`.

    The draws depend on nothing but the arguments, so a report is a function of its images.
    """
    draw = np.random.Generator(np.random.Philox(np.random.SeedSequence([BOOTSTRAP_SEED, rows, replicates])))
    return np.stack([np.bincount(draw.integers(rows, size=rows), minlength=rows) for _ in range(replicates)])


def _spread(values: np.ndarray) -> float:
    """Return the sample standard deviation, and exactly 0 where nothing varies, whatever the rounding of the mean."""
    return float(np.std(values, ddof=1)) if values.min() < values.max() else 0.0
