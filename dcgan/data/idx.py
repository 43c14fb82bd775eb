"""A dataset in MNIST's format: four IDX files in one folder, and the IDX format itself.

An IDX file is a magic number, big-endian dimensions, then the elements, gzipped or raw (Y. LeCun et al.,
http://yann.lecun.com/exdb/mnist/, "FILE FORMATS"). The magic number is two zero bytes, a byte for the element's type
(0x08 = unsigned byte) and one for the number of dimensions.

MNIST is by Y. LeCun, C. Cortes and C. Burges; names, sizes and digests of its files are those of data/mnist/README.md.
Other datasets in the same format (Fashion-MNIST, KMNIST) use the same file names.
"""

import gzip
import hashlib
import struct
import zlib
from collections.abc import Iterable
from io import BufferedIOBase
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from dcgan.errors import DataError
from dcgan.recipe import IMAGE_SIZE

Split = Literal["train", "test"]
CLASSES = 10


class MnistFile(NamedTuple):
    """One of the four files, decompressed."""

    name: str
    size: int  # bytes
    sha256: str


class SplitFiles(NamedTuple):
    """The two files of MNIST's split."""

    images: MnistFile
    labels: MnistFile


TRAIN = SplitFiles(
    images=MnistFile(
        "train-images-idx3-ubyte", 47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    ),
    labels=MnistFile(
        "train-labels-idx1-ubyte", 60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
    ),
)
TEST = SplitFiles(
    images=MnistFile(
        "t10k-images-idx3-ubyte", 7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    ),
    labels=MnistFile(
        "t10k-labels-idx1-ubyte", 10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
    ),
)
FILES = (*TRAIN, *TEST)


def dataset_digest(digests: Iterable[str]) -> str:
    """Return the digest of a dataset: one SHA-256 over those of its four files, so it depends on the data alone."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


MNIST_DIGEST = dataset_digest(file.sha256 for file in FILES)


MAX_BYTES = 1 << 30  # decompressed: 1.3 million images
UNSIGNED_BYTE = 0x08
GZIP_MAGIC = b"\x1f\x8b"
OTHER_KINDS = {
    b"<": "is a web page",
    b"vers": "is a Git LFS pointer, whose file `git lfs pull` fetches",
    b"pk": "is a zip archive, which must be unpacked",
    GZIP_MAGIC: "is gzipped twice",
}
DEFLATE_MAX_RATIO = 1032  # https://zlib.net/zlib_tech.html, "Maximum Compression Factor"


def read_images(path: Path) -> np.ndarray:
    """Return the images of an IDX file, gzipped or raw.

    Returns:
        uint8 (n, 28, 28), n >= 1.

    Raises:
        DataError: The file does not exist or has other content; the message names the file and the offset in the
            decompressed bytes.
    """
    return _read(path, "images", (IMAGE_SIZE, IMAGE_SIZE))


def read_labels(path: Path) -> np.ndarray:
    """Return the labels of an IDX file, gzipped or raw.

    Returns:
        uint8 (n,), n >= 1, each from 0 to 9.

    Raises:
        DataError: The file does not exist or has other content; the message names the file and the offset in the
            decompressed bytes.
    """
    labels = _read(path, "labels", ())
    if (wrong := np.flatnonzero(labels >= CLASSES)).size:
        row = int(wrong[0])
        offset = len(idx_header(labels)) + row
        raise DataError(f"{path}: byte {offset}: label {labels[row]}; expected 0 to {CLASSES - 1}.")
    return labels


def idx_header(array: np.ndarray) -> bytes:
    """Return the header of the IDX file of a uint8 array of any shape."""
    return bytes([0, 0, UNSIGNED_BYTE, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)


def idx_sha256(array: np.ndarray) -> str:
    """Return the SHA-256 of the raw IDX file of a C-contiguous uint8 array; the file need not exist."""
    digest = hashlib.sha256(idx_header(array))
    digest.update(array.data)
    return digest.hexdigest()


def _read(path: Path, content: str, element_shape: tuple[int, ...]) -> np.ndarray:
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            most = path.stat().st_size * (DEFLATE_MAX_RATIO if zipped else 1)
            file = gzip.GzipFile(fileobj=raw) if zipped else raw
            try:
                shape = _read_shape(file, path, content, element_shape, most)
                return _read_elements(file, path, shape)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise DataError(f"{path}: byte {file.tell()}: the gzip stream is damaged: {error}.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from None


def _kind(beginning: bytes) -> str:
    """Return what a file is that is not IDX, by its first four bytes."""
    known = next((kind for magic, kind in OTHER_KINDS.items() if beginning.lower().startswith(magic)), None)
    if not beginning:
        return "is empty"
    return known or f"begins with 0x{beginning.hex()}"


def _read_shape(
    file: BufferedIOBase, path: Path, content: str, element_shape: tuple[int, ...], most: int
) -> tuple[int, ...]:
    """Return the shape in the header, after checking everything that can be wrong in a header."""
    rank = 1 + len(element_shape)
    magic = bytes([0, 0, UNSIGNED_BYTE, rank])
    found = file.read(4)
    if found != magic:
        raise DataError(
            f"{path}: byte 0: the file {_kind(found)}; expected 0x{magic.hex()}, IDX {content} "
            f"(unsigned bytes, rank {rank})."
        )
    sizes = file.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise DataError(f"{path}: byte {4 + len(sizes)}: the header ends early; expected {4 + 4 * rank} bytes.")
    shape = struct.unpack(f">{rank}I", sizes)
    if shape[1:] != element_shape:
        raise DataError(f"{path}: byte 8: the images are {shape[1]}x{shape[2]}; expected 28x28.")
    if shape[0] == 0:
        raise DataError(f"{path}: byte 4: the file declares 0 {content}; expected at least 1.")
    size = int(np.prod(shape, dtype=object))
    if size > MAX_BYTES:
        raise DataError(f"{path}: byte 4: the file declares {shape[0]} {content}; at most {MAX_BYTES} bytes are read.")
    # no memory is allocated for what a file of this size cannot contain
    if size > most:
        raise DataError(f"{path}: byte 4: the file declares {shape[0]} {content} but is too short to contain them.")
    return shape


def _read_elements(file: BufferedIOBase, path: Path, shape: tuple[int, ...]) -> np.ndarray:
    array = np.empty(shape, np.uint8)
    view = array.data.cast("B")
    start, count = 4 + 4 * len(shape), 0
    while count < len(view) and (read := file.readinto(view[count:])):
        count += read
    if count < len(view):
        raise DataError(f"{path}: byte {start + count}: the file ends early; expected {start + len(view)} bytes.")
    if file.read(1):
        raise DataError(f"{path}: byte {start + count}: the file continues; expected {start + len(view)} bytes.")
    return array


Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="A file name, never a path")]


class IdxFile(BaseModel):
    """One IDX file, gzipped or raw."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: FileName
    sha256: Sha256 = Field(description="SHA-256 of the decompressed bytes")


class IdxPair(BaseModel):
    """The two files of one split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: IdxFile
    labels: IdxFile


class IdxSet(BaseModel):
    """Four IDX files that were read completely and are valid."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    source: str = Field(description="Where the files came from, credentials masked")
    train: IdxPair
    test: IdxPair

    @property
    def files(self) -> tuple[IdxFile, IdxFile, IdxFile, IdxFile]:
        """The files in the order of `FILES`."""
        return (self.train.images, self.train.labels, self.test.images, self.test.labels)

    @property
    def digest(self) -> str:
        """The dataset digest."""
        return dataset_digest(file.sha256 for file in self.files)


def read_idx_folder(folder: Path, source: str) -> IdxSet:
    """Return the dataset in a folder, after reading all of it.

    Args:
        folder: Folder of the four files under MNIST's names, with or without .gz.
        source: Where they came from, credentials masked.

    Raises:
        DataError: A file is missing or invalid, or images and labels differ in number.
    """
    return IdxSet(folder=folder, source=source, train=_read_pair(folder, TRAIN), test=_read_pair(folder, TEST))


def load_pair(folder: Path, pair: IdxPair) -> tuple[np.ndarray, np.ndarray]:
    """Return the images uint8 (n, 28, 28) and the labels uint8 (n,) of a split.

    Raises:
        DataError: A file is missing, damaged, or not the one that `pair` describes, or their counts differ.
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
            f"{images_path} has {len(images)} images but {labels_path.name} {len(labels)} labels; "
            "expected one label for each image."
        )
    return images, labels


def _find(folder: Path, name: str) -> Path:
    for candidate in (folder / f"{name}.gz", folder / name):
        if candidate.is_file():
            return candidate
    raise DataError(f"{folder / name}: does not exist, with or without .gz.")
