"""A walk through the latent space: from each latent vector to the next on a great circle, and back to the first."""

import numpy as np


def spherical_interpolation(start: np.ndarray, end: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return sin((1 - t) Ω) / sin Ω · start + sin(t Ω) / sin Ω · end for each share t, where Ω is their angle.

    Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985, section 3.3, for latents by White,
    https://arxiv.org/abs/1609.04468, section 2.1: normal vectors lie near a sphere, and a straight line between two
    would leave it.

    Args:
        start: (d,), not opposite to `end`.
        end: (d,).
        shares: (n,) from 0 to 1.

    Returns:
        (n, d): between vectors of equal length, all of that length.
    """
    cosine = start @ end / (np.linalg.norm(start) * np.linalg.norm(end))
    angle = np.arccos(np.clip(cosine, -1, 1))
    return np.outer(_share_of_sine(1 - shares, angle), start) + np.outer(_share_of_sine(shares, angle), end)


def closed_walk(latents: np.ndarray, steps: int) -> np.ndarray:
    """Return latents float32 (n · steps, d) that pass through `latents` (n, d), each `steps` after the one before.

    The last is one step before the first, so pictures of them make an animation that loops without a jump.
    """
    shares = np.arange(steps) / steps
    wide = latents.astype(np.float64)
    parts = [spherical_interpolation(*pair, shares) for pair in zip(wide, np.roll(wide, -1, axis=0), strict=True)]
    return np.concatenate(parts).astype(np.float32)


def _share_of_sine(shares: np.ndarray, angle: float) -> np.ndarray:
    """Return sin(t Ω) / sin Ω, which is t where Ω is 0."""
    shared: np.ndarray = shares * np.sinc(shares * angle / np.pi) / np.sinc(angle / np.pi)
    return shared
