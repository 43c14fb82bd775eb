"""Density and coverage: how far generated images lie among the real ones, and how many real ones they reach.

Naeem et al., https://arxiv.org/abs/2002.09797, section 3.2, with k = 5. Around each real point X_i lies a ball that
reaches to its k-th nearest real neighbour. All in float64.
"""

import numpy as np

from dcgan.quality.distances import distance_blocks
from dcgan.quality.noise import Estimate, bootstrap_counts, mean_of, with_bootstrap

NEIGHBOURS = 5


def squared_radii(real: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
    """Return the squared distance (n,) of each real point (n, d) from its k-th nearest other one; n > k."""
    radii = np.empty(len(real))
    for block, squared in distance_blocks(real, real):
        squared[np.arange(block.stop - block.start), np.arange(block.start, block.stop)] = -np.inf  # not its own
        radii[block] = np.partition(squared, k, axis=1)[:, k]
    return radii


def density_and_coverage(
    generated: np.ndarray, real: np.ndarray, radii: np.ndarray, replicates: int, k: int = NEIGHBOURS
) -> tuple[Estimate, Estimate]:
    """Return density 1/(k M) Σ_j Σ_i 1[Y_j in ball of X_i] and coverage 1/N Σ_i 1[some Y_j in ball of X_i].

    A density of 1 and a coverage near 1 is what the real distribution itself would get (lemma 2 of the paper gives
    the exact expectation). Noise: of density, a mean over generated points, their standard error; of coverage,
    bootstrap over the generated points.

    Args:
        generated: float64 (M, d), the Y_j.
        real: float64 (N, d), the X_i.
        radii: float64 (N,), what `squared_radii` gives for `real` and k.
        replicates: bootstrap samples.
        k: of the radii.
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
    coverage = with_bootstrap(covered / len(real), covered_replicates / len(real))
    return mean_of(memberships / k), coverage
