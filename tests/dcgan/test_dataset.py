"""A prepared data set: made once, found again, healed when it is damaged, checked before it is used."""

import errno
import json
import logging
import multiprocessing
import os
import resource
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from dcgan.dataset import MANIFEST_NAME, Manifest, load_split, prepare_dataset, read_manifest
from dcgan.errors import DataError
from dcgan.files import sha256_of_file
from dcgan.idx_set import IdxSet, load_pair, read_idx_folder
from dcgan.parquet import normalise, write_parquet


@pytest.fixture(scope="module")
def idx(small_folder) -> IdxSet:
    """Return the small set of real digits."""
    return read_idx_folder(small_folder, "https://example.org/mnist")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Return where a test's data set is prepared; it is not there yet."""
    return tmp_path / "prepared" / "x"


@pytest.fixture
def manifest(idx, folder) -> Manifest:
    """Return the manifest of the small set, prepared in `folder`."""
    return prepare_dataset(idx, folder)


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return every file of a folder with its inode and bytes."""
    return {file.name: (file.stat().st_ino, file.read_bytes()) for file in folder.iterdir()}


@pytest.mark.parametrize("split", ["train", "test"])
def test_digits_are_loaded_as_they_were_read(split, idx, folder, manifest):
    """Both splits come back normalised, in order, in the shapes and types that training expects."""
    images, labels = load_split(folder, manifest, split)
    raw_images, raw_labels = load_pair(idx.folder, getattr(idx, split))
    assert (images.dtype, labels.dtype) == (np.float32, np.uint8)
    np.testing.assert_array_equal(images, normalise(raw_images))
    np.testing.assert_array_equal(labels, raw_labels)


def test_the_manifest_says_what_is_there(idx, folder, manifest):
    """Rows, digests, histogram, columns, range and source are those of the files, and of the JSON beside them."""
    assert read_manifest(folder) == manifest
    assert (manifest.source, manifest.digest, manifest.value_range) == (idx.source, idx.digest, (-1, 1))
    assert manifest.columns == "image: fixed_shape_tensor<float32>[28, 28, 1], label: uint8, no nulls"
    assert (manifest.train.rows, manifest.test.rows) == (600, 100)
    for split in (manifest.train, manifest.test):
        assert split.sha256 == sha256_of_file(folder / split.file)
    assert manifest.test.label_histogram == (8, 14, 8, 11, 14, 7, 10, 15, 2, 11)
    assert sum(manifest.train.label_histogram) == 600


def test_only_the_first_rows_are_loaded(folder, manifest):
    """A number of rows gives the beginning of the split, and at most all of it."""
    images, labels = load_split(folder, manifest, "train")
    for rows, found in ((1, 1), (512, 512), (10_000, 600)):
        some_images, some_labels = load_split(folder, manifest, "train", rows)
        np.testing.assert_array_equal(some_images, images[:found])
        np.testing.assert_array_equal(some_labels, labels[:found])


def test_unchanged_input_is_not_prepared_again(idx, folder, manifest, log):
    """A second call writes nothing and says nothing."""
    before = contents(folder)
    assert prepare_dataset(idx, folder) == manifest
    assert contents(folder) == before
    assert log.messages == []


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "flipped byte": ("train.parquet", flip, "train.parquet: is damaged: its SHA-256 is "),
    "truncated": ("test.parquet", lambda path: path.write_bytes(path.read_bytes()[:-9]), "test.parquet: is damaged: "),
    "emptied": (
        "test.parquet",
        lambda path: path.write_bytes(b""),
        "test.parquet: is damaged: its SHA-256 is e3b0c442",
    ),
    "removed": ("train.parquet", Path.unlink, "train.parquet: cannot be read: No such file or directory."),
    "no manifest": (MANIFEST_NAME, Path.unlink, "manifest.json: cannot be read: No such file or directory."),
    "manifest cut": (
        MANIFEST_NAME,
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        "manifest.json: is not a manifest of this version: the whole: Invalid JSON",
    ),
    "manifest of another version": (
        MANIFEST_NAME,
        lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2})),
        "manifest.json: is not a manifest of this version: version: Input should be 1.",
    ),
    "manifest of another data set": (
        MANIFEST_NAME,
        lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), "digest": "0" * 64})),
        "manifest.json: is of another data set or schema; expected the digest ",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_and_healed(kind, idx, folder, manifest, log):
    """A damaged set is prepared again with one warning that names the file."""
    name, damage, sentence = DAMAGE[kind]
    damage(folder / name)
    assert prepare_dataset(idx, folder) == manifest
    assert len(load_split(folder, manifest, "train")[0]) == 600
    (record,) = log.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"The data set is prepared again: {folder / sentence}")
    assert [path.name for path in folder.parent.iterdir()] == ["x"]


def test_damage_is_found_before_it_is_used(folder, manifest):
    """Loading checks the file's digest first."""
    flip(folder / "train.parquet")
    with pytest.raises(DataError) as caught:
        load_split(folder, manifest, "train")
    assert str(caught.value) == (
        f"{folder / 'train.parquet'}: is damaged: its SHA-256 is {sha256_of_file(folder / 'train.parquet')}; "
        f"expected {manifest.train.sha256}."
    )


def test_contents_that_the_manifest_does_not_promise_are_refused(idx, folder, manifest):
    """A file with a right digest but other rows or labels than the manifest says is not trained on."""
    images, _ = load_pair(idx.folder, idx.test)
    for rows, sentence in ((99, "holds 99 rows; expected 100."), (100, "times; expected (8, 14, 8, ")):
        path = folder / "test.parquet"
        write_parquet(path, images[:rows], np.zeros(rows, np.uint8), {})
        split = manifest.test.model_copy(update={"sha256": sha256_of_file(path)})
        with pytest.raises(DataError) as caught:
            load_split(folder, manifest.model_copy(update={"test": split}), "test")
        assert sentence in str(caught.value)


def test_changed_input_is_refused_and_leaves_nothing(small_folder, tmp_path, write_idx):
    """IDX files that are no longer what was downloaded stop the preparation, and no file stays behind."""
    copy = shutil.copytree(small_folder, tmp_path / "copy")
    idx = read_idx_folder(copy, "x")
    write_idx(copy / idx.test.labels.name, np.zeros(100, np.uint8))
    with pytest.raises(DataError, match=r"the SHA-256 of its contents is"):
        prepare_dataset(idx, tmp_path / "prepared" / "x")
    assert list((tmp_path / "prepared").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(idx, tmp_path):
    """A file in the folder's place gives one sentence."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError) as caught:
        prepare_dataset(idx, tmp_path / "file" / "x")
    assert str(caught.value) == f"{tmp_path / 'file' / 'x'}: cannot be written: File exists."


def test_a_full_disk_is_named_and_leaves_nothing(idx, folder):
    """Writing that fails in the middle of a file stops with a sentence; no half data set stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(DataError) as caught:
            prepare_dataset(idx, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value).startswith(f"{folder}: cannot be written: ")
    assert os.strerror(errno.EFBIG) in str(caught.value)
    assert list(folder.parent.iterdir()) == []


@pytest.mark.parametrize("damaged", [False, True])
def test_processes_that_prepare_the_same_data_at_once_all_succeed(damaged, idx, folder):
    """Two processes at the same folder, new or damaged, agree on one whole data set and leave nothing else."""
    if damaged:
        prepare_dataset(idx, folder)
        flip(folder / "train.parquet")
    with ProcessPoolExecutor(2, multiprocessing.get_context("forkserver")) as pool:
        manifests = list(pool.map(prepare_dataset, [idx] * 2, [folder] * 2))
    assert manifests == [read_manifest(folder)] * 2
    assert len(load_split(folder, manifests[0], "train")[0]) == 600
    assert [path.name for path in folder.parent.iterdir()] == ["x"]


@pytest.mark.parametrize("file", ["../train.parquet", "/etc/train.parquet", "a/b.parquet"])
def test_a_manifest_cannot_point_elsewhere(file, manifest):
    """A file name with a folder in it is no manifest's."""
    changed = manifest.model_dump()
    changed["train"]["file"] = file
    with pytest.raises(ValidationError):
        Manifest.model_validate(changed)
