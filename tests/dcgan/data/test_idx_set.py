"""A folder of four IDX files: found with or without .gz, whole, matching, and known by its digests."""

import shutil

import numpy as np
import pytest
from pydantic import ValidationError

from dcgan.data.idx import FILES, TEST, TRAIN, IdxFile, IdxSet, load_pair, read_idx_folder
from dcgan.errors import DataError


@pytest.fixture
def folder(small_folder, tmp_path):
    """Return a copy of the small set that a test may change."""
    return shutil.copytree(small_folder, tmp_path / "copy")


def test_bundled_mnist_has_its_digests(mnist_folder):
    """The bundled files are MNIST's, and one digest stands for all four."""
    idx = read_idx_folder(mnist_folder, "bundled")
    assert [(file.name, file.sha256) for file in idx.files] == [(f"{file.name}.gz", file.sha256) for file in FILES]
    assert idx.digest == "ca679089cd9dd461d7b26e36e51216fc71f9271f8082e09656a7c1d29a50483b"


def test_the_digest_is_of_the_data_alone(folder, small_folder, write_idx):
    """Raw files under plain names have the digest of the gzipped ones; another label changes it."""
    gzipped = read_idx_folder(small_folder, "one")
    for split, files in ((gzipped.train, TRAIN), (gzipped.test, TEST)):
        for name, array in zip(files, load_pair(folder, split), strict=True):
            write_idx(folder / name.name, array)
            (folder / f"{name.name}.gz").unlink()
    raw = read_idx_folder(folder, "another")
    assert raw.digest == gzipped.digest
    assert raw.train.images.name == TRAIN.images.name

    labels = load_pair(folder, raw.test)[1].copy()
    labels[0] = (labels[0] + 1) % 10
    write_idx(folder / TEST.labels.name, labels)
    assert read_idx_folder(folder, "another").digest != gzipped.digest


def test_a_missing_file_is_named(folder):
    """The sentence has the name that was looked for."""
    (folder / f"{TEST.labels.name}.gz").unlink()
    with pytest.raises(DataError) as caught:
        read_idx_folder(folder, "x")
    assert str(caught.value) == f"{folder / TEST.labels.name}: does not exist, with or without .gz."


def test_counts_that_differ_are_named(folder, write_idx):
    """As many labels as images, or a sentence with both counts."""
    write_idx(folder / f"{TRAIN.labels.name}.gz", np.zeros(599, np.uint8))
    with pytest.raises(DataError) as caught:
        read_idx_folder(folder, "x")
    assert str(caught.value) == (
        f"{folder / TRAIN.images.name}.gz has 600 images but {TRAIN.labels.name}.gz 599 labels; "
        "expected one label for each image."
    )


def test_a_pair_that_changed_is_refused(folder, write_idx):
    """Files that were exchanged after they were checked are not used."""
    idx = read_idx_folder(folder, "x")
    write_idx(folder / idx.test.labels.name, np.zeros(100, np.uint8))
    with pytest.raises(DataError, match=rf"{TEST.labels.name}.gz: the SHA-256 of its contents is \w+; expected \w+\.$"):
        load_pair(folder, idx.test)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "..", ".hidden", "", "a\n", "a\\b"])
def test_names_cannot_leave_their_folder(name):
    """A recorded name is one component, so no record can point elsewhere."""
    with pytest.raises(ValidationError):
        IdxFile(name=name, sha256="0" * 64)


def test_it_survives_json(small_folder):
    """A set travels between processes as JSON."""
    idx = read_idx_folder(small_folder, "x")
    assert IdxSet.model_validate_json(idx.model_dump_json()) == idx
