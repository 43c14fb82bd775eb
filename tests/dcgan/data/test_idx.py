"""IDX files: real ones are read, and of everything else only DataError comes out, within bounded memory."""

import gzip
import hashlib
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcgan.data.idx import FILES, TEST, TRAIN, idx_header, idx_sha256, read_images, read_labels
from dcgan.errors import DataError
from tests.faults.idx import BAD_IMAGES, IMAGE_BYTES, IMAGES, header

MEMORY_MARGIN = 4 << 20  # bytes that Python and gzip need besides the array


@pytest.mark.parametrize("files", [TRAIN, TEST])
def test_mnist_is_read(files, mnist_folder):
    """The bundled files give the shapes and digests that data/mnist/README.md promises."""
    images = read_images(mnist_folder / f"{files.images.name}.gz")
    labels = read_labels(mnist_folder / f"{files.labels.name}.gz")
    rows = files.labels.size - 8
    assert (images.shape, images.dtype, labels.shape, labels.dtype) == ((rows, 28, 28), np.uint8, (rows,), np.uint8)
    assert (idx_sha256(images), idx_sha256(labels)) == (files.images.sha256, files.labels.sha256)


def test_the_table_is_that_of_the_readme(mnist_folder):
    """Names, sizes and digests are the ones beside the bundled files."""
    readme = (mnist_folder / "README.md").read_text()
    assert all(f"| {file.name} | {file.size:,} | {file.sha256} |" in readme for file in FILES)


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_what_is_inside_decides_and_not_the_name(name, tmp_path):
    """A gzipped file is read under a raw file's name, and the other way round."""
    path = tmp_path / name
    path.write_bytes(IMAGE_BYTES if name.endswith(".gz") else gzip.compress(IMAGE_BYTES))
    np.testing.assert_array_equal(read_images(path), IMAGES)


def test_digest_is_of_the_raw_file(tmp_path, write_idx):
    """`idx_sha256` equals the SHA-256 of the file that holds the array."""
    assert idx_sha256(IMAGES) == hashlib.sha256(write_idx(tmp_path / "images", IMAGES).read_bytes()).hexdigest()


@pytest.mark.parametrize(("content", "sentence"), BAD_IMAGES.values(), ids=BAD_IMAGES.keys())
def test_bad_images_are_named(content, sentence, tmp_path):
    """Each kind of damage gives one sentence that names the file, the place and what was expected."""
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_images(path)
    assert str(caught.value).startswith(f"{path}: byte ")
    assert sentence in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_label_10_is_named(zipped, tmp_path, write_idx):
    """The first label out of range is named with its offset."""
    path = write_idx(tmp_path / ("labels.gz" if zipped else "labels"), np.array([3, 10, 255], np.uint8))
    with pytest.raises(DataError) as caught:
        read_labels(path)
    assert str(caught.value) == f"{path}: byte 9: label 10; expected 0 to 9."


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    """A missing file and a folder in its place give a sentence."""
    for path, reason in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(DataError) as caught:
            read_images(path)
        assert str(caught.value) == f"{path}: cannot be read: {reason}."


def read_within_bounds(content: bytes, read) -> np.ndarray | None:
    """Return what `read` makes of `content`, or None for a DataError, after checking its memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        tracemalloc.start()
        try:
            return read(path)
        except DataError:
            return None
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < MEMORY_MARGIN + 1032 * len(content)


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=300), prefix=st.sampled_from([b"", header(0x0803), header(0x0801), b"\x1f\x8b\x08"]))
def test_arbitrary_bytes_give_only_data_errors(content, prefix):
    """Whatever a file holds, only DataError comes out of either reader."""
    for read in (read_images, read_labels):
        read_within_bounds(prefix + content, read)


@settings(max_examples=150, deadline=None)
@given(
    zipped=st.booleans(),
    position=st.integers(0, 10**6),
    replacement=st.binary(min_size=1, max_size=4),
    cut=st.one_of(st.none(), st.integers(0, 10**6)),
)
def test_damaged_files_give_data_errors_or_images_of_the_right_shape(zipped, position, replacement, cut):
    """A real file with bytes changed and its end cut off is refused, or read as three images."""
    content = bytearray(gzip.compress(IMAGE_BYTES) if zipped else IMAGE_BYTES)
    start = position % len(content)
    content[start : start + len(replacement)] = replacement
    images = read_within_bounds(bytes(content[: None if cut is None else cut % len(content)]), read_images)
    assert images is None or images.shape == IMAGES.shape


@settings(max_examples=30, deadline=None)
@given(labels=st.binary(min_size=1, max_size=500), zipped=st.booleans())
def test_labels_come_back_as_they_were_written(labels, zipped):
    """Reading is the inverse of writing for every label file, and refuses exactly those with a label over 9."""
    array = np.frombuffer(labels, np.uint8)
    content = idx_header(array) + labels
    found = read_within_bounds(gzip.compress(content) if zipped else content, read_labels)
    if array.max() > 9:
        assert found is None
    else:
        np.testing.assert_array_equal(found, array)
