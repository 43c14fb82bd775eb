"""A data set in MNIST's format: four IDX files in, two Parquet files and a manifest out, and back into memory."""

import logging
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from dcgan.errors import DataError
from dcgan.files import atomic_folder, remove_leftovers, sha256_of_file
from dcgan.idx_set import FileName, IdxSet, Sha256, load_pair
from dcgan.mnist import CLASSES, Split
from dcgan.parquet import COLUMNS, label_column, read_parquet, write_parquet

logger = logging.getLogger("dcgan.dataset")

MANIFEST_NAME = "manifest.json"
SPLITS: tuple[Split, Split] = ("train", "test")


class SplitManifest(BaseModel):
    """One Parquet file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: FileName
    rows: PositiveInt
    sha256: Sha256 = Field(description="of the Parquet file")
    label_histogram: tuple[int, ...] = Field(min_length=CLASSES, max_length=CLASSES, description="rows of each label")


class Manifest(BaseModel):
    """A prepared data set; lies as JSON beside its files and is written last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    source: str = Field(description="where the data came from, credentials masked")
    digest: Sha256 = Field(description="the dataset digest, of the data and not of these files")
    columns: str
    value_range: tuple[float, float] = (-1.0, 1.0)
    train: SplitManifest
    test: SplitManifest


def prepare_dataset(idx: IdxSet, folder: Path) -> Manifest:
    """Make `folder` hold the prepared form of `idx`, unless it does already.

    A damaged folder is replaced, with a warning. Several processes may do this at once.

    Raises:
        DataError: the IDX files are not what `idx` says, or images and labels differ in number.
    """
    if folder.exists():
        try:
            return check_prepared(folder, idx.digest)
        except DataError as error:
            logger.warning("The data set is prepared again: %s", error)
    try:
        return _prepare(idx, folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror}.") from None


def _prepare(idx: IdxSet, folder: Path) -> Manifest:
    remove_leftovers(folder.parent)
    with atomic_folder(folder, keep=lambda: _is_prepared(folder, idx.digest)) as temporary:
        train, test = (_prepare_split(idx, split, temporary) for split in SPLITS)
        manifest = Manifest(source=idx.source, digest=idx.digest, columns=COLUMNS, train=train, test=test)
        (temporary / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2))
    return read_manifest(folder)


def check_prepared(folder: Path, digest: str) -> Manifest:
    """Return the manifest of a prepared data set whose files are whole.

    Raises:
        DataError: the manifest or a file is missing or damaged, or belongs to another data set than `digest`.
    """
    manifest = read_manifest(folder)
    if (manifest.digest, manifest.columns) != (digest, COLUMNS):
        raise DataError(f"{folder / MANIFEST_NAME}: is of another data set or schema; expected the digest {digest}.")
    for split in (manifest.train, manifest.test):
        _check_digest(folder / split.file, split.sha256)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a prepared data set, its files not looked at.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = folder / MANIFEST_NAME
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise DataError(f"{path}: is not a manifest of this version: {where}: {first['msg']}.") from None


def check_split(folder: Path, manifest: Manifest, split: Split) -> Path:
    """Return the Parquet file of a split after checking its digest and its labels; no image is read.

    Raises:
        DataError: the file is missing or damaged, or its contents are not what the manifest says.
    """
    entry = manifest.train if split == "train" else manifest.test
    path = folder / entry.file
    _check_digest(path, entry.sha256)
    labels = label_column(path)
    if len(labels) != entry.rows:
        raise DataError(f"{path}: holds {len(labels)} rows; expected {entry.rows}.")
    if _histogram(labels) != entry.label_histogram:
        raise DataError(f"{path}: the labels occur {_histogram(labels)} times; expected {entry.label_histogram}.")
    return path


def load_split(
    folder: Path, manifest: Manifest, split: Split, rows: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return a split of a prepared data set, or its first `rows` rows, checked.

    Returns:
        images float32 (n, 28, 28, 1) in [-1, 1], and labels uint8 (n,) from 0 to 9.

    Raises:
        DataError: as `check_split`, or an image is not what it should be.
    """
    return read_parquet(check_split(folder, manifest, split), rows)


def _prepare_split(idx: IdxSet, split: Split, folder: Path) -> SplitManifest:
    images, labels = load_pair(idx.folder, idx.train if split == "train" else idx.test)
    path = folder / f"{split}.parquet"
    write_parquet(path, images, labels, {"source": idx.source, "digest": idx.digest, "range": "[-1, 1]"})
    return SplitManifest(
        file=path.name, rows=len(images), sha256=sha256_of_file(path), label_histogram=_histogram(labels)
    )


def _is_prepared(folder: Path, digest: str) -> bool:
    try:
        check_prepared(folder, digest)
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


def _histogram(labels: np.ndarray) -> tuple[int, ...]:
    return tuple(np.bincount(labels, minlength=CLASSES).tolist())
