"""A prepared dataset: made once, reused, repaired when it is damaged, and verified before it is used."""

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

from dcgan.data.dataset import MANIFEST_NAME, Dataset, Manifest, open_dataset, prepare_dataset, read_manifest
from dcgan.data.idx import IdxSet, load_pair, read_idx_folder
from dcgan.data.parquet import normalise, read_parquet, write_parquet
from dcgan.errors import DataError
from dcgan.files import LOCK_NAME, sha256_of_file


@pytest.fixture(scope="module")
def idx(small_folder) -> IdxSet:
    """Return the small set of real digits."""
    return read_idx_folder(small_folder, "https://example.org/mnist")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Return the folder of a test's prepared dataset, which does not exist yet."""
    return tmp_path / "prepared" / "x"


@pytest.fixture
def manifest(idx, folder) -> Manifest:
    """Return the manifest of the small set, prepared in `folder`."""
    return prepare_dataset(idx, folder).manifest


def entries(folder: Path) -> list[str]:
    """Return the names of everything in a folder but its lock file."""
    return [path.name for path in folder.iterdir() if path.name != LOCK_NAME]


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return every file of a folder with its inode and bytes."""
    return {file.name: (file.stat().st_ino, file.read_bytes()) for file in folder.iterdir()}


def test_digits_are_loaded_as_they_were_read(idx, folder, manifest):
    """Both splits come back normalised, in order, in the shapes and types that training expects."""
    dataset = Dataset(folder, manifest)
    train = np.concatenate(list(dataset.train.blocks()))
    for images, labels, pair in ((train, dataset.train_labels, idx.train), (*dataset.test, idx.test)):
        raw_images, raw_labels = load_pair(idx.folder, pair)
        assert (images.dtype, labels.dtype) == (np.float32, np.uint8)
        np.testing.assert_array_equal(images, normalise(raw_images))
        np.testing.assert_array_equal(labels, raw_labels)


def test_the_test_half_is_decoded_once(folder, manifest):
    """Whoever asks again gets the same arrays, even when the file is gone."""
    dataset = Dataset(folder, manifest)
    first = dataset.test
    (folder / manifest.test.file).unlink()
    assert dataset.test is first


def test_the_manifest_says_what_is_there(idx, folder, manifest):
    """Rows, digests, histogram, columns, range and source describe the files, and the JSON beside them is the same."""
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
    images, labels = read_parquet(folder / manifest.train.file)
    for rows, found in ((1, 1), (512, 512), (10_000, 600)):
        some_images, some_labels = read_parquet(folder / manifest.train.file, rows)
        np.testing.assert_array_equal(some_images, images[:found])
        np.testing.assert_array_equal(some_labels, labels[:found])


def test_unchanged_input_is_not_prepared_again(idx, folder, manifest, log):
    """A second call writes nothing and logs nothing."""
    before = contents(folder)
    assert prepare_dataset(idx, folder).manifest == manifest
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
        "manifest.json: is not a manifest of this version: the whole file: Invalid JSON",
    ),
    "manifest of another version": (
        MANIFEST_NAME,
        lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2})),
        "manifest.json: is not a manifest of this version: version: Input should be 1.",
    ),
    "manifest of another dataset": (
        MANIFEST_NAME,
        lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), "digest": "0" * 64})),
        "manifest.json: belongs to another dataset or schema; expected the digest ",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_and_repaired(kind, idx, folder, manifest, log):
    """A damaged set is prepared again with one warning that names the file."""
    name, damage, sentence = DAMAGE[kind]
    damage(folder / name)
    dataset = prepare_dataset(idx, folder)
    assert dataset.manifest == manifest
    assert len(np.concatenate(list(dataset.train.blocks()))) == 600
    (record,) = log.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"The dataset is prepared again: {folder / sentence}")
    assert entries(folder.parent) == ["x"]


def test_damage_is_found_before_it_is_used(folder, manifest):
    """Opening verifies the files' digests first."""
    flip(folder / "train.parquet")
    with pytest.raises(DataError) as caught:
        open_dataset(folder, manifest.digest)
    assert str(caught.value) == (
        f"{folder / 'train.parquet'}: is damaged: its SHA-256 is {sha256_of_file(folder / 'train.parquet')}; "
        f"expected {manifest.train.sha256}."
    )


def test_contents_that_the_manifest_does_not_promise_are_refused(idx, folder, manifest):
    """A file with other rows or labels than the manifest says is not used, in either split."""
    images, _ = load_pair(idx.folder, idx.test)
    wrong = {99: "has 99 rows; expected ", 100: "the labels occur (100, 0, "}
    for rows, sentence in wrong.items():
        for file in ("train.parquet", "test.parquet"):
            write_parquet(folder / file, images[:rows], np.zeros(rows, np.uint8), {})
        split = manifest.train.model_copy(update={"rows": 100})
        dataset = Dataset(folder, manifest.model_copy(update={"train": split}))
        for name in ("train_labels", "test"):
            with pytest.raises(DataError) as caught:
                getattr(dataset, name)
            assert sentence in str(caught.value)


def test_changed_input_is_refused_and_leaves_nothing(small_folder, tmp_path, write_idx):
    """IDX files that are no longer what was downloaded stop the preparation, and no file stays behind."""
    copy = shutil.copytree(small_folder, tmp_path / "copy")
    idx = read_idx_folder(copy, "x")
    write_idx(copy / idx.test.labels.name, np.zeros(100, np.uint8))
    with pytest.raises(DataError, match=r"the SHA-256 of its contents is"):
        prepare_dataset(idx, tmp_path / "prepared" / "x")
    assert entries(tmp_path / "prepared") == []


def test_a_folder_that_cannot_be_written_is_named(idx, tmp_path):
    """A file in the folder's place gives one sentence."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError) as caught:
        prepare_dataset(idx, tmp_path / "file" / "x")
    assert str(caught.value) == f"{tmp_path / 'file' / 'x'}: cannot be written: File exists."


def test_a_full_disk_is_named_and_leaves_nothing(idx, folder):
    """Writing that fails in the middle of a file stops with a sentence; no half dataset stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(DataError) as caught:
            prepare_dataset(idx, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value).startswith(f"{folder}: cannot be written: ")
    assert os.strerror(errno.EFBIG) in str(caught.value)
    assert entries(folder.parent) == []


@pytest.mark.parametrize("damaged", [False, True])
def test_processes_that_prepare_the_same_data_at_once_all_succeed(damaged, idx, folder):
    """Two processes at the same folder, new or damaged, agree on one complete dataset and leave nothing else."""
    if damaged:
        prepare_dataset(idx, folder)
        flip(folder / "train.parquet")
    with ProcessPoolExecutor(2, multiprocessing.get_context("forkserver")) as pool:
        datasets = list(pool.map(prepare_dataset, [idx] * 2, [folder] * 2))
    assert [dataset.manifest for dataset in datasets] == [read_manifest(folder)] * 2
    assert len(np.concatenate(list(datasets[0].train.blocks()))) == 600
    assert entries(folder.parent) == ["x"]


@pytest.mark.parametrize("file", ["../train.parquet", "/etc/train.parquet", "a/b.parquet"])
def test_a_manifest_cannot_point_elsewhere(file, manifest):
    """A file name with a folder in it is refused."""
    changed = manifest.model_dump()
    changed["train"]["file"] = file
    with pytest.raises(ValidationError):
        Manifest.model_validate(changed)
