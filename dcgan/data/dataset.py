"""A dataset in MNIST's format: four IDX files in, two Parquet files and a manifest out, and back into memory."""

import logging
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from dcgan.data.idx import CLASSES, FileName, IdxSet, Sha256, Split, load_pair
from dcgan.data.parquet import COLUMNS, ParquetImages, label_column, read_parquet, write_parquet
from dcgan.errors import DataError
from dcgan.files import atomic_folder, remove_leftovers, sha256_of_file

logger = logging.getLogger(__name__)

MANIFEST_NAME = "manifest.json"


class SplitManifest(BaseModel):
    """One Parquet file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: FileName
    rows: PositiveInt
    sha256: Sha256 = Field(description="SHA-256 of the Parquet file")
    label_histogram: tuple[int, ...] = Field(
        min_length=CLASSES, max_length=CLASSES, description="Number of rows of each label"
    )


class Manifest(BaseModel):
    """The description of a prepared dataset, a JSON file beside the Parquet files that is written last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    source: str = Field(description="Where the data came from, without credentials")
    digest: Sha256 = Field(description="The dataset digest, which depends on the data and not on these files")
    columns: str = Field(description="Columns and types of both files")
    value_range: tuple[float, float] = Field(default=(-1.0, 1.0), description="Range of the pixels")
    train: SplitManifest
    test: SplitManifest


class Dataset:
    """A prepared dataset, whose files are read when they are first needed and at most once.

    Args:
        folder: Folder of the Parquet files.
        manifest: What they contain; the caller has verified their digests.

    Raises:
        DataError: When a file is read: it is missing or damaged, or its content is not what the manifest says.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @property
    def digest(self) -> str:
        """The dataset digest."""
        return self.manifest.digest

    @cached_property
    def train(self) -> ParquetImages:
        """The training images, which need not fit into memory together."""
        return ParquetImages(self.folder / self.manifest.train.file)

    @cached_property
    def train_labels(self) -> np.ndarray:
        """The labels of the training images, uint8 (n,) from 0 to 9."""
        path = self.folder / self.manifest.train.file
        labels = label_column(path)
        _check_labels(path, labels, self.manifest.train)
        return labels

    @cached_property
    def test(self) -> tuple[np.ndarray, np.ndarray]:
        """The test images, float32 (n, 28, 28, 1) in [-1, 1], and their labels, uint8 (n,) from 0 to 9."""
        path = self.folder / self.manifest.test.file
        images, labels = read_parquet(path)
        _check_labels(path, labels, self.manifest.test)
        return images, labels


def prepare_dataset(idx: IdxSet, folder: Path) -> Dataset:
    """Return the prepared form of `idx` in `folder`, made now unless it exists already.

    A damaged folder is replaced, and a class that only the test set has is mentioned, both with a warning. Several
    processes may do this at once.

    Raises:
        DataError: The IDX files are not what `idx` says, or images and labels differ in number.
    """
    dataset = None
    if folder.exists():
        try:
            dataset = open_dataset(folder, idx.digest)
        except DataError as error:
            logger.warning("The dataset is prepared again: %s", error)
    if dataset is None:
        try:
            dataset = _prepare(idx, folder)
        except OSError as error:
            raise DataError(f"{folder}: cannot be written: {error.strerror}.") from None
    histograms = zip(dataset.manifest.train.label_histogram, dataset.manifest.test.label_histogram, strict=True)
    if untrained := [str(label) for label, (train, test) in enumerate(histograms) if test and not train]:
        logger.warning(
            "No training image has the labels %s, which test images have; a generator cannot pass the gate without "
            "these classes.",
            ", ".join(untrained),
        )
    return dataset


def open_dataset(folder: Path, digest: str) -> Dataset:
    """Return a prepared dataset after verifying the digests of its files.

    Raises:
        DataError: The manifest or a file is missing or damaged, or belongs to another dataset than `digest`.
    """
    manifest = read_manifest(folder)
    if (manifest.digest, manifest.columns) != (digest, COLUMNS):
        raise DataError(
            f"{folder / MANIFEST_NAME}: belongs to another dataset or schema; expected the digest {digest}."
        )
    for split in (manifest.train, manifest.test):
        _check_digest(folder / split.file, split.sha256)
    return Dataset(folder, manifest)


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a prepared dataset without looking at its files.

    Raises:
        DataError: The manifest is missing or damaged.
    """
    path = folder / MANIFEST_NAME
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        raise DataError(f"{path}: is not a manifest of this version: {where}: {first['msg']}.") from None


def _prepare(idx: IdxSet, folder: Path) -> Dataset:
    remove_leftovers(folder.parent)
    with atomic_folder(folder, keep=lambda: _is_prepared(folder, idx.digest)) as temporary:
        test_images, test = _prepare_split(idx, "test", temporary)
        train_images, train = _prepare_split(idx, "train", temporary)
        _require_unseen(idx.source, test_images, train_images)
        manifest = Manifest(source=idx.source, digest=idx.digest, columns=COLUMNS, train=train, test=test)
        (temporary / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
    return Dataset(folder, read_manifest(folder))


def _prepare_split(idx: IdxSet, split: Split, folder: Path) -> tuple[np.ndarray, SplitManifest]:
    """Write a split's file, and return its images, uint8 (n, 28, 28), and its entry in the manifest."""
    images, labels = load_pair(idx.folder, idx.train if split == "train" else idx.test)
    path = folder / f"{split}.parquet"
    write_parquet(path, images, labels, {"source": idx.source, "digest": idx.digest, "range": "[-1, 1]"})
    return images, SplitManifest(
        file=path.name, rows=len(images), sha256=sha256_of_file(path), label_histogram=_histogram(labels)
    )


def _require_unseen(source: str, test: np.ndarray, train: np.ndarray) -> None:
    """Refuse test images most of which are training images: every metric of generated images would be void."""
    known = {image.tobytes() for image in test}
    found = {content for image in train if (content := image.tobytes()) in known}
    copies = sum(image.tobytes() in found for image in test)
    if 2 * copies >= len(test):
        raise DataError(
            f"{source}: {copies:,} of the {len(test):,} test images are training images too; "
            "expected test images that are not trained on."
        )


def _is_prepared(folder: Path, digest: str) -> bool:
    try:
        open_dataset(folder, digest)
    except DataError:
        return False
    return True


def _check_digest(path: Path, expected: str) -> None:
    try:
        found = sha256_of_file(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from None
    if found != expected:
        raise DataError(f"{path}: is damaged: its SHA-256 is {found}; expected {expected}.")


def _check_labels(path: Path, labels: np.ndarray, expected: SplitManifest) -> None:
    if len(labels) != expected.rows:
        raise DataError(f"{path}: has {len(labels)} rows; expected {expected.rows}.")
    if _histogram(labels) != expected.label_histogram:
        raise DataError(f"{path}: the labels occur {_histogram(labels)} times; expected {expected.label_histogram}.")


def _histogram(labels: np.ndarray) -> tuple[int, ...]:
    return tuple(np.bincount(labels, minlength=CLASSES).tolist())
