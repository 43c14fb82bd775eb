"""Parquet files of a split: one schema, and only DataError for everything else."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcgan.data.idx import TRAIN, read_images, read_labels
from dcgan.data.parquet import (
    ROW_GROUP_ROWS,
    label_column,
    normalise,
    read_parquet,
    row_group_sizes,
    row_groups,
    sample_parquet,
    write_parquet,
)
from dcgan.errors import DataError
from tests.faults.parquet import BAD_COLUMNS, BLACK, GOOD, tensors, write_table


@pytest.fixture(scope="module")
def digits(small_folder) -> tuple[np.ndarray, np.ndarray]:
    """Return 600 real digits and their labels."""
    return (
        read_images(small_folder / f"{TRAIN.images.name}.gz"),
        read_labels(small_folder / f"{TRAIN.labels.name}.gz"),
    )


@pytest.fixture(scope="module")
def digits_file(digits, tmp_path_factory) -> Path:
    """Return a Parquet file of the 600 digits; tests only read it."""
    path = tmp_path_factory.mktemp("parquet") / "train.parquet"
    write_parquet(path, *digits, {"source": "test"})
    return path


def test_every_byte_becomes_the_value_of_the_reference_implementation():
    """Normalising is (x - 127.5) / 127.5 in float32 for all 256 bytes."""
    pixels = np.arange(256, dtype=np.uint8)
    expected = (pixels.astype(np.float32) - np.float32(127.5)) / np.float32(127.5)
    images = normalise(np.repeat(pixels, 784).reshape(256, 28, 28))
    assert (images.shape, images.dtype) == ((256, 28, 28, 1), np.float32)
    np.testing.assert_array_equal(images[:, 0, 0, 0], expected)


def test_digits_come_back(digits, digits_file):
    """What is read is the normalised form of what was written, in the order of the rows."""
    images, labels = read_parquet(digits_file)
    assert (images.shape, images.dtype, labels.dtype) == ((600, 28, 28, 1), np.float32, np.uint8)
    np.testing.assert_array_equal(images, normalise(digits[0]))
    np.testing.assert_array_equal(labels, digits[1])


def test_the_file_is_plain_arrow(digits_file):
    """Any Arrow reader sees the canonical tensor type, zstd, dictionaries and the metadata."""
    file = pq.ParquetFile(digits_file)
    column = file.metadata.row_group(0).column(0)
    assert file.schema_arrow.field("image").type == pa.fixed_shape_tensor(pa.float32(), [28, 28, 1])
    assert file.schema_arrow.field("label").type == pa.uint8()
    assert file.schema_arrow.metadata == {b"source": b"test"}
    assert (column.compression, "RLE_DICTIONARY" in column.encodings) == ("ZSTD", True)


@pytest.mark.parametrize("rows", [1, ROW_GROUP_ROWS - 1, ROW_GROUP_ROWS, ROW_GROUP_ROWS + 1])
def test_row_groups_follow_each_other(rows, digits, tmp_path):
    """Rows on either side of a row group's border are all there, once, in order."""
    labels = np.resize(digits[1], rows)
    write_parquet(tmp_path / "x.parquet", np.resize(digits[0], (rows, 28, 28)), labels, {})
    groups = list(row_groups(tmp_path / "x.parquet"))
    assert [len(group) for _, group in groups] == [min(ROW_GROUP_ROWS, rows)] + [1] * (rows > ROW_GROUP_ROWS)
    np.testing.assert_array_equal(np.concatenate([group for _, group in groups]), labels)


def test_row_groups_are_read_by_number(digits, tmp_path):
    """Row groups can be named, in any order; one that is not there is one sentence."""
    path, labels = tmp_path / "x.parquet", np.resize(digits[1], 2 * ROW_GROUP_ROWS + 1)
    write_parquet(path, np.resize(digits[0], (len(labels), 28, 28)), labels, {})
    assert row_group_sizes(path) == [ROW_GROUP_ROWS, ROW_GROUP_ROWS, 1]
    (_, last), (_, first) = row_groups(path, [2, 0])
    np.testing.assert_array_equal(last, labels[-1:])
    np.testing.assert_array_equal(first, labels[:ROW_GROUP_ROWS])
    with pytest.raises(DataError, match=r"has 3 row groups; expected at least 4\.$"):
        next(row_groups(path, [3]))


@pytest.mark.parametrize(("most", "step"), [(10_000, 1), (8193, 1), (8192, 2), (1000, 9), (1, 8193)])
def test_samples_are_spread_evenly(most, step, digits, tmp_path):
    """No more rows than asked for are taken, equally far apart, across the borders of row groups."""
    path, rows = tmp_path / "x.parquet", 2 * ROW_GROUP_ROWS + 1
    images, labels = np.resize(digits[0], (rows, 28, 28)), np.resize(digits[1], rows)
    write_parquet(path, images, labels, {})
    some_images, some_labels = sample_parquet(path, most)
    np.testing.assert_array_equal(some_images, normalise(images[::step]))
    np.testing.assert_array_equal(some_labels, labels[::step])


def test_labels_alone(digits, digits_file):
    """The labels can be read without the images."""
    np.testing.assert_array_equal(label_column(digits_file), digits[1])


@pytest.mark.parametrize(("rows", "found"), [(1, 1), (599, 599), (600, 600), (601, 600)])
def test_only_the_first_rows(rows, found, digits, digits_file):
    """A number of rows cuts the split, and asking for more than there are gives all."""
    images, labels = read_parquet(digits_file, rows)
    np.testing.assert_array_equal(images, normalise(digits[0][:found]))
    np.testing.assert_array_equal(labels, digits[1][:found])


# kept for good: a buffer that outlived it would be given back to nothing
COUNTED_MEMORY = pa.proxy_memory_pool(pa.default_memory_pool())


@pytest.mark.parametrize(("columns", "sentence"), BAD_COLUMNS.values(), ids=BAD_COLUMNS.keys())
def test_bad_columns_are_named(columns, sentence, tmp_path):
    """Each departure from the schema gives one sentence that names the file and what was expected."""
    path = write_table(tmp_path / "train.parquet", columns)
    with pytest.raises(DataError) as caught:
        read_parquet(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert sentence in str(caught.value)


def test_nulls_inside_an_image_are_refused(tmp_path):
    """A null pixel is found although the schema says that there is none."""
    mask = np.zeros(BLACK.size, bool)
    mask[3] = True
    path = write_table(tmp_path / "train.parquet", {"image": tensors(BLACK, mask), "label": GOOD})
    with pytest.raises(DataError) as caught:
        read_parquet(path)
    assert str(caught.value) == f"{path}: the column image has nulls; expected none."


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(60) + b"PAR1", b"<html>" * 20])
def test_what_is_not_parquet_is_named(content, tmp_path):
    """A file of another kind gives one sentence."""
    path = tmp_path / "train.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as Parquet: [^\n]+\.$") as caught:
        read_parquet(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_missing_file_is_named(tmp_path):
    """A file that is not there gives one sentence."""
    with pytest.raises(DataError, match=r"none\.parquet: cannot be read as Parquet: "):
        read_parquet(tmp_path / "none.parquet")


@pytest.fixture
def arrow_memory(digits_file) -> Iterator[None]:
    """Fail when Arrow ever held more than 64 MiB at once during the test."""
    previous = pa.default_memory_pool()
    pa.set_memory_pool(COUNTED_MEMORY)
    read_parquet(digits_file)
    assert COUNTED_MEMORY.max_memory() > 600 * 784 * 4
    yield
    pa.set_memory_pool(previous)
    assert COUNTED_MEMORY.max_memory() < 64 << 20


def read_bytes(content: bytes) -> np.ndarray | None:
    """Return the labels in a Parquet file, or None for a DataError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        try:
            return read_parquet(path)[1]
        except DataError:
            return None


@pytest.mark.usefixtures("arrow_memory")
@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=400), framed=st.booleans())
def test_arbitrary_bytes_give_only_data_errors(content, framed):
    """Whatever a file holds, only DataError comes out."""
    read_bytes(b"PAR1" + content + len(content).to_bytes(4, "little") + b"PAR1" if framed else content)


@pytest.mark.usefixtures("arrow_memory")
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damaged_files_give_data_errors_or_rows(data, digits_file):
    """A real file with bytes changed and its end cut off is refused, or read as rows of the schema."""
    content = bytearray(digits_file.read_bytes())
    footer = len(content) - int.from_bytes(content[-8:-4], "little") - 8
    start = data.draw(st.one_of(st.integers(0, len(content) - 1), st.integers(footer, len(content) - 1)))
    replacement = data.draw(st.binary(min_size=1, max_size=4))
    content[start : start + len(replacement)] = replacement
    end = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    labels = read_bytes(bytes(content[:end]))
    assert labels is None or labels.max() <= 9
