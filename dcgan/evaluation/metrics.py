"""The metrics of generated images, each with its standard error.

All are computed in float64 from the features and class probabilities of a classifier:

* the Fréchet distance (FID): Heusel et al., https://arxiv.org/abs/1706.08500, equation 6, on the distance between two
  Gaussians of Dowson and Landau, Journal of Multivariate Analysis 12 (1982), equation 4;
* the kernel distance (KID): Bińkowski et al., https://arxiv.org/abs/1801.01401, section 4, the squared maximum mean
  discrepancy with the cubic kernel k(x, y) = (xᵀy / d + 1)³, which is unbiased for any number of images;
* density and coverage: Naeem et al., https://arxiv.org/abs/2002.09797, section 3.2, with k = 5;
* which classes appear, how evenly, and with what confidence they are recognised.
"""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

BOOTSTRAP_SEED = 20_000
CLASS_BOOTSTRAP_SEED = 20_001
KERNEL_SHUFFLE_SEED = 20_002
RELATIVE_RANK = 1e-12  # eigenvalues below this fraction of the largest are rounding errors
BLOCK_ELEMENTS = 10_000_000  # distances in one block: 80 MB in float64
NEIGHBOURS = 5
LOW_CONFIDENCE = 0.9
MISSING_FRACTION = 0.1
"""A class with less than this fraction of its share of the reference counts as missing.

Misclassified images give every class a few, so no class would ever be found missing if zero were required.
"""
EXPECTED_IMAGES = 10
"""A class of which the reference leads to expect fewer images never counts as missing: chance can leave it out."""


class Estimate(BaseModel):
    """A metric and the standard error with which a finite number of images gives it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    value: float = Field(description="Value of the metric")
    standard_error: float = Field(ge=0, description="Standard error of the value")

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.standard_error:.2g}"


def mean_estimate(values: np.ndarray) -> Estimate:
    """Return the mean of independent values (n,), n >= 2, and its standard error, s / √n."""
    return Estimate(value=float(np.mean(values)), standard_error=_standard_deviation(values) / math.sqrt(len(values)))


def bootstrap_estimate(value: float, replicates: Iterable[float]) -> Estimate:
    """Return `value` with the standard deviation of its bootstrap replicates as its standard error.

    Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7 (1979), section 2. The mean of the
    replicates is not used: that of a distance is biased upward, by the distance's own bias once more.
    """
    return Estimate(value=float(value), standard_error=_standard_deviation(np.fromiter(replicates, np.float64)))


def bootstrap_counts(rows: int, replicates: int) -> np.ndarray:
    """Return how often each row is drawn in each bootstrap sample: int64 (replicates, rows), each row's sum `rows`.

    The draws depend on nothing but the arguments, so a report is a function of its images.
    """
    draw = np.random.Generator(np.random.Philox(np.random.SeedSequence([BOOTSTRAP_SEED, rows, replicates])))
    return np.stack([np.bincount(draw.integers(rows, size=rows), minlength=rows) for _ in range(replicates)])


def _standard_deviation(values: np.ndarray) -> float:
    """Return the sample standard deviation; exactly 0 for equal values, whatever the rounding of their mean."""
    return float(np.std(values, ddof=1)) if values.min() < values.max() else 0.0


class Gaussian(NamedTuple):
    """A multivariate normal distribution.

    Attributes:
        mean: float64 (d,).
        covariance: float64 (d, d).
    """

    mean: np.ndarray
    covariance: np.ndarray


def fit_gaussian(vectors: np.ndarray) -> Gaussian:
    """Return the mean and the sample covariance (divided by n - 1) of vectors float64 (n, d)."""
    mean = vectors.mean(axis=0)
    centred = vectors - mean
    return Gaussian(mean, centred.T @ centred / (len(vectors) - 1))


def estimate_frechet(vectors: np.ndarray, reference: Gaussian) -> Estimate:
    """Return the Fréchet distance (FID) of vectors float64 (n, d) from `reference`, and its standard error.

    The distance is |m₁ - m₂|² + tr(C₁ + C₂ - 2 (C₁ C₂)^½), never negative. tr (C₁ C₂)^½ is the sum of the square roots
    of the eigenvalues of C₁ C₂, which are those of the symmetric matrix S = R C₁ R with R = C₂^½. Two symmetric
    eigenvalue problems therefore suffice, with negative rounding errors clipped, where a general matrix root would lose
    accuracy, or become complex, for nearly singular covariances.

    The standard error is that of the mean of the influence function (Hampel, "The influence curve and its role in
    robust estimation", Journal of the American Statistical Association 69, 1974): the derivative of the distance with
    respect to the weight of each row. With y = x - m₁ it is, up to a constant,

        2 (m₁ - m₂)ᵀ y + yᵀ y - yᵀ R S^(-½) R y.

    It costs one matrix product where a bootstrap would cost a hundred eigenvalue problems. Near the minimum, where this
    derivative is nearly zero, it is too large.
    """
    gaussian = fit_gaussian(vectors)
    root = _symmetric_root(reference.covariance)
    eigenvalues, eigenvectors = np.linalg.eigh(root @ gaussian.covariance @ root)
    cross = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    apart = gaussian.mean - reference.mean
    distance = np.sum(apart**2) + np.trace(gaussian.covariance) + np.trace(reference.covariance) - 2 * cross
    kept = eigenvalues > RELATIVE_RANK * max(eigenvalues[-1], 0)
    projection = root @ eigenvectors[:, kept] * eigenvalues[kept] ** -0.25
    centred = vectors - gaussian.mean
    influence = 2 * centred @ apart
    influence += np.sum(centred**2, axis=1) - np.sum((centred @ projection) ** 2, axis=1)
    return Estimate(value=max(float(distance), 0.0), standard_error=mean_estimate(influence).standard_error)


def _symmetric_root(matrix: np.ndarray) -> np.ndarray:
    eigenvalues, eigenvectors = np.linalg.eigh(matrix)
    return (eigenvectors * np.sqrt(np.clip(eigenvalues, 0, None))) @ eigenvectors.T


def cubic_kernel(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return k(x, y) float64 (n, m) for x in `one` (n, d) and y in `other` (m, d)."""
    return (one @ other.T / one.shape[1] + 1) ** 3


def squared_mmd(one: np.ndarray, other: np.ndarray) -> float:
    """Return the unbiased estimate of the squared maximum mean discrepancy of (n, d) and (m, d); it may be negative.

    Gretton et al., https://jmlr.org/papers/v13/gretton12a.html, equation 3: the mean of k over the pairs of different
    rows within each set, minus twice its mean over the pairs across the sets.
    """
    within = (_mean_of_pairs(cubic_kernel(vectors, vectors)) for vectors in (one, other))
    return sum(within) - 2 * float(cubic_kernel(one, other).mean())


def estimate_kernel_distance(vectors: np.ndarray, reference: np.ndarray, subsets: int = 10) -> Estimate:
    """Return the mean squared discrepancy over `subsets` pairs of disjoint subsets, and its standard error.

    Every row is in exactly one subset. Since the subsets share no row, their estimates are independent and the standard
    error is their standard deviation / √subsets (the B-test of Zaremba et al., https://arxiv.org/abs/1307.1954,
    section 3).

    Args:
        vectors: Features of the images, float64 (n, d).
        reference: Features of the images to compare with, float64 (m, d).
        subsets: Number of subsets, at least 2 and at most half of n and of m.
    """
    pairs = zip(_shuffled_subsets(vectors, subsets), _shuffled_subsets(reference, subsets), strict=True)
    return mean_estimate(np.array([squared_mmd(one, other) for one, other in pairs]))


def _shuffled_subsets(vectors: np.ndarray, subsets: int) -> list[np.ndarray]:
    """Return the rows, shuffled, in subsets of nearly equal size."""
    # MNIST's test set is ordered: its first 5,000 images come from easier writers
    order = np.random.Generator(np.random.Philox(KERNEL_SHUFFLE_SEED)).permutation(len(vectors))
    return [vectors[rows] for rows in np.array_split(order, subsets)]


def _mean_of_pairs(kernel: np.ndarray) -> float:
    rows = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (rows * (rows - 1)))


def distance_blocks(rows: np.ndarray, columns: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the squared Euclidean distances between all points, one block of rows at a time to bound the memory.

    Computed as |x|² - 2 xᵀy + |y|² in the dtype of the points; the rounding error is that of the largest |x|².

    Args:
        rows: Points (n, d).
        columns: Points (m, d) of the same dtype.

    Yields:
        The rows of a block, and their squared distances (block, m) from all columns.
    """
    column_norms = np.einsum("ij,ij->i", columns, columns)
    size = max(1, BLOCK_ELEMENTS // len(columns))
    for start in range(0, len(rows), size):
        block = slice(start, min(start + size, len(rows)))
        squared = rows[block] @ columns.T
        squared *= -2
        squared += column_norms
        squared += np.einsum("ij,ij->i", rows[block], rows[block])[:, None]
        yield block, squared


def squared_radii(real: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
    """Return the squared distance (n,) of each real point (n, d) from its k-th nearest other point; n > k."""
    radii = np.empty(len(real))
    for block, squared in distance_blocks(real, real):
        # a point is not its own neighbour
        squared[np.arange(block.stop - block.start), np.arange(block.start, block.stop)] = -np.inf
        radii[block] = np.partition(squared, k, axis=1)[:, k]
    return radii


def density_and_coverage(
    generated: np.ndarray, real: np.ndarray, radii: np.ndarray, replicates: int, k: int = NEIGHBOURS
) -> tuple[Estimate, Estimate]:
    """Return density 1/(k M) Σ_j Σ_i 1[Y_j in ball of X_i] and coverage 1/N Σ_i 1[some Y_j in ball of X_i].

    The ball of a real point X_i reaches to its k-th nearest real neighbour. The real distribution itself would get a
    density of 1 and a coverage near 1 (lemma 2 of the paper gives the exact expectation). The standard error of density
    is that of a mean over the generated points; the one of coverage is from a bootstrap over the generated points.

    Args:
        generated: Generated points Y_j, float64 (M, d).
        real: Real points X_i, float64 (N, d).
        radii: Squared radii of the balls, float64 (N,), as `squared_radii` returns them for `real` and `k`.
        replicates: Number of bootstrap samples.
        k: Number of neighbours that the radii were computed with.
    """
    drawn = (bootstrap_counts(len(generated), replicates) > 0).T.astype(np.float32)
    memberships = np.zeros(len(generated))
    covered = 0
    covered_replicates = np.zeros(replicates)
    for block, squared in distance_blocks(real, generated):
        inside = squared <= radii[block][:, None]
        memberships += inside.sum(axis=0)
        covered += int(inside.any(axis=1).sum())
        covered_replicates += (inside.astype(np.float32) @ drawn > 0).sum(axis=0)
    coverage = bootstrap_estimate(covered / len(real), covered_replicates / len(real))
    return mean_estimate(memberships / k), coverage


class ClassMetrics(NamedTuple):
    """The classes of a set of images, as a classifier recognises them.

    Attributes:
        counts: Number of images of each class, by the most probable class.
        divergence: Kullback-Leibler divergence of the class fractions from those of the reference, in nats.
        missing: Number of missing classes.
        confidence: Mean probability of the most probable class.
        low_confidence: Fraction of images whose most probable class has a probability below 0.9.
    """

    counts: tuple[int, ...]
    divergence: Estimate
    missing: Estimate
    confidence: Estimate
    low_confidence: Estimate


def measure_classes(probabilities: np.ndarray, reference: np.ndarray, replicates: int) -> ClassMetrics:
    """Return the class metrics of probabilities float64 (n, classes).

    The standard errors of the divergence and of the number of missing classes are from `replicates` bootstrap samples.

    Args:
        probabilities: Probabilities of the classes for each image, float64 (n, classes).
        reference: Number of reference images of each class, integers (classes,).
        replicates: Number of bootstrap samples.
    """
    n, classes = probabilities.shape
    counts = np.bincount(probabilities.argmax(axis=1), minlength=classes)
    draw = np.random.Generator(np.random.Philox(np.random.SeedSequence([CLASS_BOOTSTRAP_SEED, n])))
    samples = draw.multinomial(n, counts / n, size=replicates)
    highest = probabilities.max(axis=1)
    return ClassMetrics(
        counts=tuple(counts.tolist()),
        divergence=bootstrap_estimate(
            class_divergence(counts, reference), (class_divergence(sample, reference) for sample in samples)
        ),
        missing=bootstrap_estimate(
            missing_classes(counts, reference), (missing_classes(sample, reference) for sample in samples)
        ),
        confidence=mean_estimate(highest),
        low_confidence=mean_estimate(highest < LOW_CONFIDENCE),
    )


def class_divergence(counts: np.ndarray, reference: np.ndarray) -> float:
    """Return Σ p log(p / q) in nats for the class fractions p of images and q of the reference, with 0 log 0 = 0.

    Kullback and Leibler, "On information and sufficiency", Annals of Mathematical Statistics 22 (1951), equation 2.4.
    One is added to each of the reference's counts (Laplace's rule of succession), so that an image of a class which the
    reference lacks costs much, but not infinitely much.

    Args:
        counts: Number of images of each class, integers (classes,).
        reference: Number of reference images of each class, integers (classes,).
    """
    fractions = counts / counts.sum()
    expected = (reference + 1) / (reference + 1).sum()
    present = counts > 0
    return float(np.sum(fractions[present] * np.log(fractions[present] / expected[present])))


def missing_classes(counts: np.ndarray, reference: np.ndarray) -> int:
    """Return how many classes have less than a tenth of the images that the reference's shares lead to expect.

    The arguments are those of `class_divergence`. Classes of fewer than ten expected images are not counted.
    """
    expected = counts.sum() * reference / reference.sum()
    return int(np.sum((counts < MISSING_FRACTION * expected) & (expected >= EXPECTED_IMAGES)))
