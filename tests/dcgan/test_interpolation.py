"""The walk through the latent space: on great circles, through every vector, and closed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dcgan.generation import closed_walk, spherical_interpolation
from dcgan.rng import fixed_latents

LATENTS = fixed_latents(7, 16, 100)

vectors = arrays.arrays(np.float64, 5, elements=st.floats(0.1, 1))


def test_it_passes_through_every_latent():
    """Each fixed latent vector is on the walk, bit for bit, eight steps after the one before."""
    walk = closed_walk(LATENTS, 8)
    assert (walk.shape, walk.dtype) == ((128, 100), np.float32)
    np.testing.assert_array_equal(walk[::8], LATENTS)


def test_the_walk_is_closed():
    """From the last to the first is a step like any other of the last part: no jump where the animation loops."""
    walk = closed_walk(LATENTS, 8).astype(np.float64)
    last_part = np.diff(np.concatenate([walk[-8:], walk[:1]]), axis=0)
    lengths = np.linalg.norm(last_part, axis=1)
    assert lengths.max() < 1.5 * lengths.min()


def test_no_step_leaves_the_sphere():
    """Lengths stay between those of the ends, where the middle of a straight line would have 0.71 of them."""
    walk = np.linalg.norm(closed_walk(LATENTS, 8), axis=1)
    ends = np.linalg.norm(LATENTS, axis=1)
    assert 0.95 * ends.min() < walk.min()
    assert walk.max() < 1.05 * ends.max()


@given(start=vectors, end=vectors, share=st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_equal_lengths_and_even_angles(start, end, share):
    """Between unit vectors every vector is a unit vector, and its angle from the start is that share of the whole."""
    start, end = start / np.linalg.norm(start), end / np.linalg.norm(end)
    (between,) = spherical_interpolation(start, end, np.array([share]))
    assert np.linalg.norm(between) == pytest.approx(1, abs=1e-9)
    whole, part = (2 * np.arcsin(np.linalg.norm(other - start) / 2) for other in (end, between))
    assert part == pytest.approx(share * whole, abs=1e-6)


def test_a_vector_to_itself_stays():
    """With no angle there is no division by zero."""
    np.testing.assert_array_equal(closed_walk(LATENTS[:1], 4), np.repeat(LATENTS[:1], 4, axis=0))
