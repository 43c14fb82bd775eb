"""The four IDX files of a data set in one folder: what they are called, that they are whole, and their digests."""

import hashlib
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from dcgan.errors import DataError
from dcgan.idx import idx_sha256, read_images, read_labels
from dcgan.mnist import TEST, TRAIN, SplitFiles

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="a name, never a path")]


class IdxFile(BaseModel):
    """One IDX file, gzipped or raw."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: FileName
    sha256: Sha256 = Field(description="of the decompressed bytes")


class IdxPair(BaseModel):
    """The two files of one split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: IdxFile
    labels: IdxFile


class IdxSet(BaseModel):
    """Four IDX files that were read and found whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    source: str = Field(description="where the files came from, credentials masked")
    train: IdxPair
    test: IdxPair

    @property
    def files(self) -> tuple[IdxFile, IdxFile, IdxFile, IdxFile]:
        """The files in the order of `dcgan.mnist.FILES`."""
        return (self.train.images, self.train.labels, self.test.images, self.test.labels)

    @property
    def digest(self) -> str:
        """The dataset digest: one SHA-256 over those of the four files, so it depends on the data alone."""
        return hashlib.sha256("\n".join(file.sha256 for file in self.files).encode()).hexdigest()


def read_idx_folder(folder: Path, source: str) -> IdxSet:
    """Return what a folder holds, after reading all of it.

    Args:
        folder: holds the four files under MNIST's names, with or without .gz.
        source: where they came from, credentials masked.

    Raises:
        DataError: a file is missing or is not what it should be, or images and labels differ in number.
    """
    return IdxSet(folder=folder, source=source, train=_read_pair(folder, TRAIN), test=_read_pair(folder, TEST))


def load_pair(folder: Path, pair: IdxPair) -> tuple[np.ndarray, np.ndarray]:
    """Return the images uint8 (n, 28, 28) and the labels uint8 (n,) of a split.

    Raises:
        DataError: a file is missing, damaged, or another than `pair` says, or their counts differ.
    """
    images, labels = _load(folder / pair.images.name, folder / pair.labels.name)
    for file, array in ((pair.images, images), (pair.labels, labels)):
        if (found := idx_sha256(array)) != file.sha256:
            raise DataError(f"{folder / file.name}: the SHA-256 of its contents is {found}; expected {file.sha256}.")
    return images, labels


def _read_pair(folder: Path, files: SplitFiles) -> IdxPair:
    images_path, labels_path = (_find(folder, file.name) for file in files)
    images, labels = _load(images_path, labels_path)
    return IdxPair(
        images=IdxFile(name=images_path.name, sha256=idx_sha256(images)),
        labels=IdxFile(name=labels_path.name, sha256=idx_sha256(labels)),
    )


def _load(images_path: Path, labels_path: Path) -> tuple[np.ndarray, np.ndarray]:
    images, labels = read_images(images_path), read_labels(labels_path)
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} holds {len(images)} images but {labels_path.name} {len(labels)} labels; "
            "expected one label for each image."
        )
    return images, labels


def _find(folder: Path, name: str) -> Path:
    for candidate in (folder / f"{name}.gz", folder / name):
        if candidate.is_file():
            return candidate
    raise DataError(f"{folder / name}: does not exist, with or without .gz.")
