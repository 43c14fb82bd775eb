"""The Fréchet distance between two sets of features, each taken as a Gaussian.

Heusel et al., https://arxiv.org/abs/1706.08500, equation 6; the distance of two Gaussians is Dowson and Landau's,
Journal of Multivariate Analysis 12 (1982), equation 4. All in float64.
"""

from typing import NamedTuple

import numpy as np

from dcgan.quality.noise import Estimate, mean_of

RELATIVE_RANK = 1e-12  # smaller eigenvalues are rounding


class Gaussian(NamedTuple):
    """Mean (d,) and covariance (d, d), float64."""

    mean: np.ndarray
    covariance: np.ndarray


def fit_gaussian(features: np.ndarray) -> Gaussian:
    """Return the mean and the sample covariance (divided by n - 1) of features float64 (n, d)."""
    mean = features.mean(axis=0)
    centred = features - mean
    return Gaussian(mean, centred.T @ centred / (len(features) - 1))


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """Return |m₁ - m₂|² + tr(C₁ + C₂ - 2 (C₁ C₂)^½), the squared distance that is known as FID; never negative.

    tr (C₁ C₂)^½ is the sum of the square roots of the eigenvalues of C₁ C₂, which are those of the symmetric
    C₂^½ C₁ C₂^½. So two symmetric eigenvalue problems do, with rounding below zero cut off, where a general matrix
    root would lose accuracy, or turn complex, on covariances that are nearly singular.
    """
    root = _symmetric_root(other.covariance)
    return _distance(one, other, np.linalg.eigvalsh(root @ one.covariance @ root))


def estimate_frechet(features: np.ndarray, reference: Gaussian) -> Estimate:
    """Return the distance of features (n, d) from `reference`, and its standard error.

    The standard error is that of the mean of the influence function (Hampel, "The influence curve and its role in
    robust estimation", Journal of the American Statistical Association 69, 1974): the distance's derivative toward
    each row. With R = C₂^½, S = R C₁ R and y = x - m₁ it is, but for a constant,

        2 (m₁ - m₂)ᵀ y + yᵀ y - yᵀ R S^(-½) R y.

    It costs one matrix product where a bootstrap would cost a hundred eigenvalue problems.
    """
    gaussian = fit_gaussian(features)
    root = _symmetric_root(reference.covariance)
    eigenvalues, vectors = np.linalg.eigh(root @ gaussian.covariance @ root)
    kept = eigenvalues > RELATIVE_RANK * max(eigenvalues[-1], 0)
    projection = root @ vectors[:, kept] * eigenvalues[kept] ** -0.25
    centred = features - gaussian.mean
    influence = 2 * centred @ (gaussian.mean - reference.mean)
    influence += np.sum(centred**2, axis=1) - np.sum((centred @ projection) ** 2, axis=1)
    return Estimate(value=_distance(gaussian, reference, eigenvalues), noise=mean_of(influence).noise)


def _distance(one: Gaussian, other: Gaussian, eigenvalues: np.ndarray) -> float:
    cross = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    distance = np.sum((one.mean - other.mean) ** 2) + np.trace(one.covariance) + np.trace(other.covariance) - 2 * cross
    return max(float(distance), 0.0)


def _symmetric_root(matrix: np.ndarray) -> np.ndarray:
    eigenvalues, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(eigenvalues, 0, None))) @ vectors.T
