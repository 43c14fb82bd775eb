"""Images: every pixel is the one that the images have, in the grid, in the PNG and in every frame of the GIF."""

from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from dcgan.data.parquet import normalise
from dcgan.images import (
    FRAME_MILLISECONDS,
    FRAME_SCALE,
    LABEL_HEIGHT,
    LAST_FRAME_MILLISECONDS,
    frame_schedule,
    image_grid,
    png_bytes,
    to_uint8,
    upscaled,
    write_animation,
)


def reference_frames(count: int) -> list[int]:
    """Return the frames that the loop of the reference implementation writes for `count` grids."""
    written = []
    last = -1.0
    for i in range(count):
        frame = 2 * (i**0.5)
        if round(frame) > round(last):
            last = frame
        else:
            continue
        written.append(i)
    return [*written, count - 1]  # "the last grid is appended once more"


def make_grids(count: int) -> np.ndarray:
    """Return uint8 (count, 112, 112) of random pixels, no two alike."""
    return np.random.default_rng(count).integers(0, 256, (count, 112, 112)).astype(np.uint8)


def read_gif(path: Path) -> tuple[list[np.ndarray], list[int], int | None]:
    """Return a GIF's frames, the milliseconds of each, and how often it loops (0: for ever)."""
    with Image.open(path) as gif:
        frames, milliseconds = [], []
        for index in range(gif.n_frames):
            gif.seek(index)
            frames.append(np.asarray(gif.convert("L")))
            milliseconds.append(gif.info["duration"])
        return frames, milliseconds, gif.info.get("loop")


@pytest.mark.parametrize(
    ("value", "pixel"),
    [(-1, 0), (0, 128), (1, 255), (-1.5, 0), (7, 255), (-np.inf, 0), (np.inf, 255), (0.5, 191), (-0.5, 64)],
)
def test_fixed_limits(value, pixel):
    """[-1, 1] becomes [0, 255], rounded to the nearest; what lies outside is cut off."""
    assert to_uint8(np.array([value], np.float32)).tolist() == [pixel]


def test_contrast_is_never_stretched():
    """An image of one grey stays that grey, and a faint one stays faint, whatever else is in the batch."""
    assert to_uint8(np.full((28, 28, 1), 0.1, np.float32)).tolist() == np.full((28, 28, 1), 140).tolist()
    assert to_uint8(np.array([0.0, 0.02])).tolist() == to_uint8(np.array([0.0, 0.02, 1.0]))[:2].tolist() == [128, 130]


def test_every_byte_comes_back():
    """The pixels of MNIST, normalised and rendered, are the pixels of MNIST."""
    pixels = np.arange(28 * 28).astype(np.uint8).reshape(1, 28, 28)
    np.testing.assert_array_equal(to_uint8(normalise(pixels))[..., 0], pixels)


@pytest.mark.parametrize("columns", [1, 2, 4, 16])
def test_grid_layout(columns):
    """Image i stands in row i // columns and column i % columns, upright, its pixels unchanged."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 28, 28)).astype(np.uint8)
    grid = image_grid(normalise(pixels), columns)
    assert (grid.shape, grid.dtype) == ((28 * 16 // columns, 28 * columns), np.uint8)
    for index, image in enumerate(pixels):
        top, left = 28 * (index // columns), 28 * (index % columns)
        np.testing.assert_array_equal(grid[top : top + 28, left : left + 28], image)


def test_grid_of_the_seed():
    """Sixteen images make the reference's 4×4 grid."""
    assert image_grid(np.zeros((16, 28, 28, 1), np.float32)).shape == (112, 112)


@pytest.mark.parametrize("shape", [(2, 3), (5, 2, 3)])
def test_upscaled_repeats_each_pixel(shape):
    """Each pixel becomes a square of its own value, in one image and in many."""
    images = np.arange(np.prod(shape)).astype(np.uint8).reshape(shape)
    for factor in (1, 3):
        expected = np.kron(images, np.ones((factor, factor), np.uint8))
        np.testing.assert_array_equal(upscaled(images, factor), expected)


@given(image=arrays.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40))))
@settings(max_examples=50, deadline=None)
def test_png_round_trip_is_exact(image):
    """A PNG gives back every pixel, as a grey image."""
    data = png_bytes(image)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    found = imageio.imread(data)
    assert (found.dtype, found.shape) == (np.uint8, image.shape)
    np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize("count", [*range(1, 30), 50, 99, 400])
def test_the_schedule_is_that_of_the_reference_implementation(count):
    """The frames are those of the reference implementation, but the last grid comes once, not twice."""
    expected = reference_frames(count)
    if expected[-2:-1] == expected[-1:]:
        expected.pop()
    assert frame_schedule(count) == expected


def test_schedule_prefers_early_epochs():
    """Known cases by hand: round(2·√i) for i = 0, 1, 2, … is 0, 2, 3, 3, 4, 4, 5, 5, 6, 6."""
    assert frame_schedule(0) == []
    assert frame_schedule(10) == [0, 1, 2, 4, 6, 8, 9]
    assert np.diff(frame_schedule(400)[:-1]).tolist() == sorted(np.diff(frame_schedule(400)[:-1]).tolist())


@pytest.mark.parametrize(("count", "frames"), [(1, 1), (2, 2), (10, 7), (50, 15)])
def test_animation_holds_the_scheduled_grids(tmp_path, count, frames):
    """The GIF has the reference's frames, pixel for pixel, loops for ever, and holds the last one longer."""
    grids = make_grids(count)
    assert write_animation(tmp_path / "training.gif", grids) == frames
    found, milliseconds, loops = read_gif(tmp_path / "training.gif")
    assert (len(found), loops) == (frames, 0)
    assert milliseconds == [FRAME_MILLISECONDS] * (frames - 1) + [LAST_FRAME_MILLISECONDS]
    np.testing.assert_array_equal(found, upscaled(grids[frame_schedule(count)]))
    other_reader = imageio.imread(tmp_path / "training.gif", index=None, mode="L")
    np.testing.assert_array_equal(other_reader, found)


def test_last_frame_is_held():
    """The last frame stays long enough to be looked at before the animation begins again."""
    assert LAST_FRAME_MILLISECONDS >= 10 * FRAME_MILLISECONDS


def test_labels_stand_below_the_grids(tmp_path):
    """An epoch's number is drawn in a strip of its own, legibly, and differs between frames; no pixel above changes."""
    grids = make_grids(10)
    write_animation(tmp_path / "training.gif", grids, epochs=list(range(1, 11)))
    found = np.stack(read_gif(tmp_path / "training.gif")[0])
    height = 112 * FRAME_SCALE
    assert found.shape == (7, height + LABEL_HEIGHT, height)
    np.testing.assert_array_equal(found[:, :height], upscaled(grids[frame_schedule(10)]))
    strips = found[:, height:]
    assert all(strip.max() == 255 and np.median(strip) == 0 for strip in strips)
    assert len({strip.tobytes() for strip in strips}) == len(strips)


def test_labels_name_the_epochs_that_are_given(tmp_path):
    """The number below a frame is its grid's epoch: two animations agree in a label exactly where they agree in it."""
    grids = make_grids(3)
    for name, epochs in (("a.gif", [1, 2, 3]), ("b.gif", [1, 5, 3])):
        write_animation(tmp_path / name, grids, epochs)
    a, b = (np.stack(read_gif(tmp_path / name)[0]) for name in ("a.gif", "b.gif"))
    assert [np.array_equal(*pair) for pair in zip(a, b, strict=True)] == [True, False, True]


def test_grids_that_do_not_change_keep_their_frames(tmp_path):
    """A training run whose images do not change still shows each scheduled epoch's number."""
    grids = np.repeat(make_grids(1), 4, axis=0)
    assert write_animation(tmp_path / "training.gif", grids, epochs=[1, 2, 3, 4]) == 4
    assert len(read_gif(tmp_path / "training.gif")[0]) == 4


def test_animation_replaces_the_old_one_whole(tmp_path):
    """A second animation replaces the first, and a failing one leaves it; nothing else remains in the folder."""
    path = tmp_path / "training.gif"
    write_animation(path, make_grids(2))
    write_animation(path, make_grids(4))
    whole = path.read_bytes()
    with pytest.raises(IndexError):
        write_animation(path, make_grids(4), epochs=[1])
    assert path.read_bytes() == whole
    assert [entry.name for entry in tmp_path.iterdir()] == ["training.gif"]
    assert len(read_gif(path)[0]) == len(frame_schedule(4))
