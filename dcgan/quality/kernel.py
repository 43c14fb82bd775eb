"""The kernel distance (KID) between two sets of features.

Bińkowski et al., https://arxiv.org/abs/1801.01401, section 4: the squared maximum mean discrepancy with the cubic
kernel k(x, y) = (xᵀy / d + 1)³, unbiased whatever the number of images. All in float64.
"""

import numpy as np

from dcgan.quality.noise import Estimate, mean_of

SHUFFLE_SEED = 20_002


def cubic_kernel(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return k(x, y) (n, m) for x in `one` (n, d) and y in `other` (m, d)."""
    return (one @ other.T / one.shape[1] + 1) ** 3


def squared_mmd(one: np.ndarray, other: np.ndarray) -> float:
    """Return the unbiased estimate of the squared discrepancy of features (n, d) and (m, d); it may be below zero.

    Gretton et al., https://jmlr.org/papers/v13/gretton12a.html, equation 3: the mean of k over the pairs of different
    rows within each set, less twice its mean over the pairs across.
    """
    within = (_mean_of_pairs(cubic_kernel(features, features)) for features in (one, other))
    return sum(within) - 2 * float(cubic_kernel(one, other).mean())


def estimate_kernel_distance(features: np.ndarray, reference: np.ndarray, subsets: int = 10) -> Estimate:
    """Return the mean squared discrepancy over `subsets` pairs of disjoint blocks, and its standard error.

    Every row is in one block. The blocks share no row, so their estimates are independent and the standard error is
    their spread / √subsets (the B-test of Zaremba et al., https://arxiv.org/abs/1307.1954, section 3).

    Args:
        features: float64 (n, d).
        reference: float64 (m, d).
        subsets: at least 2, and at most half of n and of m.
    """
    pairs = zip(_blocks(features, subsets), _blocks(reference, subsets), strict=True)
    return mean_of(np.array([squared_mmd(one, other) for one, other in pairs]))


def _blocks(features: np.ndarray, subsets: int) -> list[np.ndarray]:
    """Return the rows, shuffled, in blocks of nearly equal size."""
    # MNIST's test half is ordered: its first 5,000 come from easier writers
    order = np.random.Generator(np.random.Philox(SHUFFLE_SEED)).permutation(len(features))
    return [features[rows] for rows in np.array_split(order, subsets)]


def _mean_of_pairs(kernel: np.ndarray) -> float:
    rows = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (rows * (rows - 1)))
