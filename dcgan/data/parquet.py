"""One split of a dataset as a Parquet file: written and read by row group, in one explicit schema.

`image` is Arrow's canonical fixed_shape_tensor<float32>[28, 28, 1], https://arrow.apache.org/docs/format/
CanonicalExtensions.html#fixed-shape-tensor, normalised to [-1, 1]; `label` is uint8.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dcgan.data.idx import CLASSES
from dcgan.errors import DataError
from dcgan.files import first_line
from dcgan.recipe import IMAGE_SHAPE

ROW_GROUP_ROWS = 4096  # 12.8 MB of float32: small enough to stream, large enough to decode fast
MAX_ROWS = 2_000_000
PIXELS = 28 * 28
IMAGE_TYPE = pa.fixed_shape_tensor(pa.float32(), IMAGE_SHAPE)
SCHEMA = pa.schema([pa.field("image", IMAGE_TYPE, nullable=False), pa.field("label", pa.uint8(), nullable=False)])
COLUMNS = "image: fixed_shape_tensor<float32>[28, 28, 1], label: uint8, no nulls"
# (x - 127.5) / 127.5 of every byte, as the reference implementation normalises
NORMALISED = ((np.arange(256, dtype=np.float32) - np.float32(127.5)) / np.float32(127.5)).astype(np.float32)


def normalise(images: np.ndarray) -> np.ndarray:
    """Return float32 (n, 28, 28, 1) in [-1, 1] for uint8 (n, 28, 28)."""
    return NORMALISED[images][..., np.newaxis]


def write_parquet(path: Path, images: np.ndarray, labels: np.ndarray, metadata: dict[str, str]) -> None:
    """Write a split, normalising it one row group at a time.

    Args:
        path: The file to write.
        images: Images, uint8 (n, 28, 28).
        labels: Labels, uint8 (n,).
        metadata: Key-value metadata of the file's schema.
    """
    chunks = (slice(start, start + ROW_GROUP_ROWS) for start in range(0, len(images), ROW_GROUP_ROWS))
    write_row_groups(path, ((normalise(images[rows]), labels[rows]) for rows in chunks), metadata)


def write_row_groups(path: Path, groups: Iterable[tuple[np.ndarray, np.ndarray]], metadata: dict[str, str]) -> None:
    """Write one row group after another, so that no more than one is in memory.

    Args:
        path: The file to write.
        groups: Images float32 (n, 28, 28, 1) in [-1, 1] and labels uint8 (n,) of each row group.
        metadata: Key-value metadata of the file's schema.
    """
    schema = SCHEMA.with_metadata(metadata)
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=True, write_statistics=["label"]) as writer:
        for images, labels in groups:
            storage = pa.FixedSizeListArray.from_arrays(pa.array(images.reshape(-1)), PIXELS)
            tensors = pa.ExtensionArray.from_storage(IMAGE_TYPE, storage)
            writer.write_batch(pa.record_batch([tensors, pa.array(labels)], schema=schema))


def row_group_sizes(path: Path) -> list[int]:
    """Return the number of rows of each row group, as the file declares them.

    Raises:
        DataError: The file is not a Parquet file of this schema.
    """
    with _opened(path) as file:
        return [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]


def row_groups(path: Path, indices: Iterable[int] | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (images float32 (n, 28, 28, 1) in [-1, 1], labels uint8 (n,) from 0 to 9) of each row group in turn.

    The arrays are read-only views of what Parquet decoded.

    Args:
        path: The file.
        indices: Indices of the row groups, in the order in which they are read; None reads all. Empty ones are skipped.

    Raises:
        DataError: The file is not a Parquet file of this schema, lacks a row group, or a value is null, not finite or
            out of range.
    """
    with _opened(path) as file:
        for index in range(file.num_row_groups) if indices is None else indices:
            if index >= file.num_row_groups:
                raise DataError(f"{path}: has {file.num_row_groups} row groups; expected at least {index + 1}.")
            if file.metadata.row_group(index).num_rows:
                table = file.read_row_group(index)
                yield _images(path, table["image"]), _labels(path, table["label"])


def label_column(path: Path) -> np.ndarray:
    """Return the labels alone, uint8 (n,) from 0 to 9.

    Raises:
        DataError: The file is not a Parquet file of this schema, or a label is null or out of range.
    """
    with _opened(path) as file:
        return _labels(path, file.read(["label"])["label"])


def read_parquet(path: Path, rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return a split, or its first `rows` rows where it has more.

    Returns:
        Images float32 (n, 28, 28, 1) in [-1, 1], and labels uint8 (n,) from 0 to 9.

    Raises:
        DataError: As `row_groups`.
    """
    declared = _declared_rows(path)
    wanted = declared if rows is None else min(rows, declared)
    images, labels = np.empty((wanted, *IMAGE_SHAPE), np.float32), np.empty(wanted, np.uint8)
    filled = 0
    for group_images, group_labels in row_groups(path):
        target = slice(filled, filled + len(group_labels))
        images[target] = group_images[: wanted - filled]
        labels[target] = group_labels[: wanted - filled]
        filled = min(target.stop, wanted)
        if filled == wanted:
            return images, labels
    raise DataError(f"{path}: has {filled} rows; expected {declared} as it declares.")


def sample_parquet(path: Path, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return every n-th row, with the smallest n that gives no more than `most` rows.

    Returns:
        Images float32 (rows, 28, 28, 1) in [-1, 1], and labels uint8 (rows,) from 0 to 9.

    Raises:
        DataError: As `row_groups`.
    """
    step = -(-_declared_rows(path) // most)
    taken: list[tuple[np.ndarray, np.ndarray]] = []
    start = 0
    for images, labels in row_groups(path):
        rows = slice(-start % step, None, step)
        taken.append((images[rows].copy(), labels[rows]))
        start += len(labels)
    images, labels = map(np.concatenate, zip(*taken, strict=True))
    return images, labels


def _declared_rows(path: Path) -> int:
    with _opened(path) as file:
        return file.metadata.num_rows


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a file of the one schema; every error of Parquet's reader, then or later, becomes a DataError."""
    try:
        with pq.ParquetFile(path) as file:
            _check_metadata(path, file)
            yield file
    except (pa.ArrowException, MemoryError, OSError, ValueError) as error:  # ValueError: a name that is not UTF-8
        raise DataError(f"{path}: cannot be read as Parquet: {first_line(error)}.") from None


def _check_metadata(path: Path, file: pq.ParquetFile) -> None:
    if not file.schema_arrow.equals(SCHEMA):
        raise DataError(f"{path}: the columns are {_describe(file.schema_arrow)}; expected {COLUMNS}.")
    if not 0 < file.metadata.num_rows <= MAX_ROWS:
        raise DataError(f"{path}: has {file.metadata.num_rows} rows; expected 1 to {MAX_ROWS}.")


def _images(path: Path, column: "pa.ChunkedArray[Any]") -> np.ndarray:
    tensors = cast("pa.FixedShapeTensorArray[Any]", column.combine_chunks())
    storage = tensors.storage
    values = storage.flatten()
    if storage.null_count or values.null_count:
        raise DataError(f"{path}: the column image has nulls; expected none.")
    images = values.to_numpy(zero_copy_only=True).reshape(-1, *IMAGE_SHAPE)
    if not (images.min() >= -1 and images.max() <= 1):  # also false for NaN
        raise DataError(f"{path}: the column image has values outside [-1, 1] or not finite.")
    return images


def _labels(path: Path, column: "pa.ChunkedArray[Any]") -> np.ndarray:
    if column.null_count:
        raise DataError(f"{path}: the column label has nulls; expected none.")
    labels = column.combine_chunks().to_numpy()
    if labels.max() >= CLASSES:
        raise DataError(f"{path}: the column label has the value {labels.max()}; expected 0 to {CLASSES - 1}.")
    return labels


def _describe(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}{' with nulls' if field.nullable else ''}" for field in schema)


class ParquetImages:
    """The images of a Parquet file, which are read when they are needed and need not fit into memory together.

    Args:
        path: The file, in the schema of this module.

    Attributes:
        path: As above.
        group_rows: Number of rows of each row group.

    Raises:
        DataError: The file is not of that schema; later, when images are read, a value is invalid.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.group_rows = row_group_sizes(path)

    def __len__(self) -> int:
        return sum(self.group_rows)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield all images, float32 (n, 28, 28, 1) in [-1, 1], one row group after another."""
        return (images for images, _ in row_groups(self.path))

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return the images of rows, integers (n,) in any order, as float32 (n, 28, 28, 1); reads the whole file."""
        found = np.empty((len(rows), *IMAGE_SHAPE), np.float32)
        start = 0
        for images in self.blocks():
            here = (start <= rows) & (rows < start + len(images))
            found[here] = images[rows[here] - start]
            start += len(images)
        return found
