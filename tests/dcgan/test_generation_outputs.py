"""Images on disk: PNG files, one grid, or Parquet; whole or absent, in bounded memory."""

import tracemalloc

import numpy as np
import pyarrow.parquet as pq
import pytest
from imageio.v3 import imread

from dcgan.data.parquet import MAX_ROWS, ROW_GROUP_ROWS, read_parquet
from dcgan.errors import ConfigurationError, DataError, ModelError
from dcgan.generation import MAX_GRID, output_format, write_folder, write_grid, write_labelled
from dcgan.images import to_uint8


def batches(count, size=512):
    """Yield images of noise."""
    draw = np.random.default_rng(0)
    for start in range(0, count, size):
        yield draw.uniform(-1, 1, (min(size, count - start), 28, 28, 1)).astype(np.float32)


def breaking():
    """Yield a batch, and then fail as a generator may."""
    yield from batches(10)
    raise ModelError("The generator returns values outside [-1, 1] or not finite.")


def by_brightness(images):
    """Label images with something that is known of them."""
    return (images.mean(axis=(1, 2, 3)) > 0).astype(np.uint8)


def test_a_folder_has_a_file_for_each(tmp_path):
    """Every image is a PNG of its own, numbered from 0, exact to the pixel."""
    write_folder(tmp_path / "out", batches(5, size=2))
    files = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in files] == [f"{number:07d}.png" for number in range(5)]
    expected = to_uint8(np.concatenate(list(batches(5, size=2))))[..., 0]
    assert np.array_equal([imread(file) for file in files], expected)


@pytest.mark.parametrize(("count", "shape"), [(1, (28, 28)), (4, (56, 56)), (6, (56, 84)), (7, (84, 84))])
def test_a_grid_is_about_square(tmp_path, count, shape):
    """Images stand row by row; what is left of the last row is black."""
    write_grid(tmp_path / "grid.png", count, batches(count, size=2))
    image = imread(tmp_path / "grid.png")
    assert image.shape == shape
    columns = shape[1] // 28
    tiles = image.reshape(-1, 28, columns, 28).swapaxes(1, 2).reshape(-1, 28, 28)
    assert np.array_equal(tiles[:count], to_uint8(np.concatenate(list(batches(count, size=2))))[..., 0])
    assert not tiles[count:].any()


def test_parquet_is_a_data_set_like_others(tmp_path):
    """The file has the pipeline's schema and row groups, the labels that were given, and says what they are."""
    count = ROW_GROUP_ROWS + 100
    write_labelled(tmp_path / "out.parquet", batches(count), by_brightness, {"label": "bright or not"})
    images, labels = read_parquet(tmp_path / "out.parquet")
    expected = np.concatenate(list(batches(count)))
    assert np.array_equal(images, expected)
    assert np.array_equal(labels, by_brightness(expected))
    with pq.ParquetFile(tmp_path / "out.parquet") as file:
        assert [file.metadata.row_group(group).num_rows for group in range(2)] == [ROW_GROUP_ROWS, 100]
        assert file.schema_arrow.metadata[b"label"] == b"bright or not"


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_folder(path / "out", breaking()),
        lambda path: write_grid(path / "out.png", 20, breaking()),
        lambda path: write_labelled(path / "out.parquet", breaking(), by_brightness, {}),
    ],
)
def test_a_failure_leaves_nothing(tmp_path, write):
    """When the generator fails in between, neither the result nor a temporary file is there."""
    with pytest.raises(ModelError):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_what_was_there(tmp_path):
    """A file that is written again keeps its old contents when the writing fails."""
    (tmp_path / "out.parquet").write_bytes(b"old")
    with pytest.raises(ModelError):
        write_labelled(tmp_path / "out.parquet", breaking(), by_brightness, {})
    assert (tmp_path / "out.parquet").read_bytes() == b"old"


def test_a_folder_that_is_filled_meanwhile_stays(tmp_path):
    """What another process writes there while the images are made is not replaced."""
    out = tmp_path / "out"

    def filled():
        yield from batches(8)
        out.mkdir()
        (out / "others.txt").write_text("theirs")

    with pytest.raises(DataError, match=r"out: cannot be written: File exists\.$"):
        write_folder(out, filled())
    assert [path.name for path in out.iterdir()] == ["others.txt"]
    assert list(tmp_path.iterdir()) == [out]


def test_memory_does_not_grow_with_the_number(tmp_path):
    """Three times as many images in Parquet need no more memory: a row group is written before the next is made."""

    def peak(groups):
        tracemalloc.start()
        write_labelled(tmp_path / "out.parquet", batches(groups * ROW_GROUP_ROWS), by_brightness, {})
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(6) < 1.2 * peak(2)


@pytest.mark.parametrize(
    ("name", "form"), [("new", "folder"), ("empty", "folder"), ("a.png", "grid"), ("used.parquet", "parquet")]
)
def test_the_name_says_the_form(tmp_path, name, form):
    """A new or empty folder, a file in .png, or a file in .parquet, which may be replaced."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "used.parquet").touch()
    assert output_format(tmp_path / name, 1) == form


@pytest.mark.parametrize(
    ("name", "count", "sentence"),
    [
        ("a.gif", 1, "cannot be written as .gif; expected .png, .parquet, or the name of a folder without a dot."),
        ("used", 1, "exists; expected the name of a new folder, or an empty one."),
        ("file", 1, "exists; expected the name of a new folder, or an empty one."),
        ("folder.png", 1, "is a folder; expected the name of a file."),
        ("a.png", MAX_GRID + 1, "cannot contain 10001 images; expected at most 10000."),
        ("a.parquet", MAX_ROWS + 1, "cannot contain 2000001 images; expected at most 2000000."),
    ],
)
def test_unusable_places_are_refused(tmp_path, name, count, sentence):
    """What would be overwritten, or cannot contain the images, is refused in a sentence."""
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").touch()
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ConfigurationError) as refusal:
        output_format(tmp_path / name, count)
    assert str(refusal.value) == f"{tmp_path / name}: {sentence}"


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_folder(path / "out", batches(1)),
        lambda path: write_grid(path / "out.png", 1, batches(1)),
        lambda path: write_labelled(path / "out.parquet", batches(1), by_brightness, {}),
    ],
)
def test_a_place_that_cannot_be_written_is_named(tmp_path, write):
    """A path below a file is a sentence."""
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/out.*: cannot be written: .*\.$"):
        write(tmp_path / "file")
