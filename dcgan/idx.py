"""The IDX format of MNIST's files: a magic number, big-endian dimensions, then the elements, gzipped or raw.

Y. LeCun et al., http://yann.lecun.com/exdb/mnist/, "FILE FORMATS". The magic number is two zero bytes, a byte for the
element's type (0x08 = unsigned byte) and one for the number of dimensions.
"""

import gzip
import hashlib
import struct
import zlib
from io import BufferedIOBase
from pathlib import Path

import numpy as np

from dcgan.errors import DataError
from dcgan.mnist import CLASSES
from dcgan.recipe import IMAGE_SIZE

MAX_BYTES = 1 << 30  # decompressed: 1.3 million images
UNSIGNED_BYTE = 0x08
GZIP_MAGIC = b"\x1f\x8b"
DEFLATE_MAX_RATIO = 1032  # https://zlib.net/zlib_tech.html, "Maximum Compression Factor"


def read_images(path: Path) -> np.ndarray:
    """Return the images of an IDX file, gzipped or raw.

    Returns:
        uint8 (n, 28, 28), n >= 1.

    Raises:
        DataError: the file is not there, or holds anything else; it names the file and the offset in the
            decompressed bytes.
    """
    return _read(path, "images", (IMAGE_SIZE, IMAGE_SIZE))


def read_labels(path: Path) -> np.ndarray:
    """Return the labels of an IDX file, gzipped or raw.

    Returns:
        uint8 (n,), n >= 1, each from 0 to 9.

    Raises:
        DataError: the file is not there, or holds anything else; it names the file and the offset in the
            decompressed bytes.
    """
    labels = _read(path, "labels", ())
    if (wrong := np.flatnonzero(labels >= CLASSES)).size:
        row = int(wrong[0])
        offset = len(idx_header(labels)) + row
        raise DataError(f"{path}: byte {offset}: label {labels[row]}; expected 0 to {CLASSES - 1}.")
    return labels


def idx_header(array: np.ndarray) -> bytes:
    """Return the bytes that precede the elements of a uint8 array of any shape in an IDX file."""
    return bytes([0, 0, UNSIGNED_BYTE, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)


def idx_sha256(array: np.ndarray) -> str:
    """Return the SHA-256 of the raw IDX file that holds a C-contiguous uint8 array, which need not be written."""
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


def _read_shape(
    file: BufferedIOBase, path: Path, content: str, element_shape: tuple[int, ...], most: int
) -> tuple[int, ...]:
    """Return the shape that the header gives, after checking everything that a header can get wrong."""
    rank = 1 + len(element_shape)
    magic = bytes([0, 0, UNSIGNED_BYTE, rank])
    found = file.read(4)
    if found != magic:
        raise DataError(
            f"{path}: byte 0: the file begins with 0x{found.hex()}; expected 0x{magic.hex()}, IDX {content} "
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
    # nothing is set aside for what a file of this size cannot hold
    if size > most:
        raise DataError(f"{path}: byte 4: the file declares {shape[0]} {content} but is too short to hold them.")
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
        raise DataError(f"{path}: byte {start + count}: the file goes on; expected {start + len(view)} bytes.")
    return array
