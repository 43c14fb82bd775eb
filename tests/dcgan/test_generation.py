"""Generated images: a function of the seed, whole batches inside, and only images."""

import numpy as np
import pytest

from dcgan.errors import ModelError
from dcgan.generation import BATCH_ROWS, generated_batches
from dcgan.model.networks import build_generator
from dcgan.recipe import IMAGE_SHAPE
from dcgan.rng import Stream


@pytest.fixture(scope="module")
def generator():
    """An untrained generator, as a function."""
    network = build_generator(3)
    return lambda latents: np.asarray(network(latents, training=False))


def images(generator, count, seed=0, stream=Stream.GENERATION):
    return np.concatenate(list(generated_batches(generator, seed, stream, count)))


@pytest.mark.parametrize("count", [1, BATCH_ROWS, BATCH_ROWS + 1])
def test_as_many_as_asked_for(generator, count):
    """However many are asked for, so many come, float32 in [-1, 1]."""
    made = images(generator, count)
    assert (made.shape, made.dtype) == ((count, *IMAGE_SHAPE), np.float32)
    assert np.abs(made).max() <= 1


def test_more_begin_with_the_same(generator):
    """The first images of a larger number are those of a smaller one, bit for bit."""
    more = images(generator, BATCH_ROWS + 20)
    assert np.array_equal(images(generator, BATCH_ROWS + 3), more[: BATCH_ROWS + 3])
    assert np.array_equal(images(generator, 5), more[:5])


def test_seeds_and_streams_differ(generator):
    """Another seed, or another use, gives other images; the same gives the same."""
    first = images(generator, 4)
    assert np.array_equal(images(generator, 4), first)
    assert not np.array_equal(images(generator, 4, seed=1), first)
    assert not np.array_equal(images(generator, 4, stream=Stream.EVALUATION), first)


def test_the_generator_is_asked_for_whole_batches():
    """A generator sees one shape only, and nothing is generated before it is taken."""
    asked = []

    def blank(latents):
        asked.append(latents.shape)
        return np.zeros((len(latents), *IMAGE_SHAPE), np.float32)

    batches = generated_batches(blank, 0, Stream.GENERATION, 10**6)
    assert [len(next(batches)), len(next(batches))] == [BATCH_ROWS, BATCH_ROWS]
    assert asked == [(BATCH_ROWS, 100)] * 2


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (np.zeros((BATCH_ROWS, 28, 28), np.float32), r"gives float32 \(512, 28, 28\);"),
        (np.zeros((BATCH_ROWS, *IMAGE_SHAPE)), r"gives float64 \(512, 28, 28, 1\);"),
        (np.full((BATCH_ROWS, *IMAGE_SHAPE), np.nan, np.float32), "values outside"),
        (np.full((BATCH_ROWS, *IMAGE_SHAPE), 1.01, np.float32), "values outside"),
    ],
)
def test_what_is_no_image_is_refused(wrong, what):
    """Another shape or type, values that are not finite or too large: one sentence."""
    with pytest.raises(ModelError, match=f"^The generator returns .*{what.removeprefix('gives ')}.*expected float32"):
        images(lambda _: wrong, 1)
