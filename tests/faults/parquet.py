"""Parquet files with wrong columns or values, each with the end of the error message that it gets."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dcgan.data.parquet import IMAGE_TYPE, MAX_ROWS

EXPECTED = "expected image: fixed_shape_tensor<float32>[28, 28, 1], label: uint8, no nulls."


def tensors(values: np.ndarray, mask: np.ndarray | None = None) -> pa.Array:
    """Return the image column of float32 (n, 784), null where `mask` says so."""
    return pa.ExtensionArray.from_storage(
        IMAGE_TYPE, pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), mask=mask), 784)
    )


def write_table(path: Path, columns: dict[str, pa.Array]) -> Path:
    """Write columns as they are, with no check."""
    fields = [pa.field(name, column.type, nullable=column.null_count > 0) for name, column in columns.items()]
    pq.write_table(pa.table(columns, schema=pa.schema(fields)), path)
    return path


BLACK = np.full((2, 784), -1, np.float32)
GOOD = pa.array([0, 9], pa.uint8())
FLAT = pa.FixedSizeListArray.from_arrays(pa.array(BLACK.reshape(-1)), 784)


def changed(value: float) -> np.ndarray:
    """Return two black images with one other value."""
    images = BLACK.copy()
    images[1, 5] = value
    return images


BAD_COLUMNS = {
    "missing column": ({"image": tensors(BLACK)}, f"the columns are image: {IMAGE_TYPE}; {EXPECTED}"),
    "wrong label type": (
        {"image": tensors(BLACK), "label": pa.array([0, 9], pa.int64())},
        f"the columns are image: {IMAGE_TYPE}, label: int64; {EXPECTED}",
    ),
    "wrong image type": (
        {"image": FLAT, "label": GOOD},
        f"the columns are image: fixed_size_list<element: float>[784], label: uint8; {EXPECTED}",
    ),
    "wrong shape": (
        {
            "image": pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), [1, 28, 28]), FLAT),
            "label": GOOD,
        },
        f"shape=[1,28,28]]>, label: uint8; {EXPECTED}",
    ),
    "empty": (
        {"image": tensors(BLACK[:0]), "label": GOOD[:0]},
        f"has 0 rows; expected 1 to {MAX_ROWS}.",
    ),
    "NaN": (
        {"image": tensors(changed(np.nan)), "label": GOOD},
        "the column image has values outside [-1, 1] or not finite.",
    ),
    "infinite": (
        {"image": tensors(changed(np.inf)), "label": GOOD},
        "the column image has values outside [-1, 1] or not finite.",
    ),
    "out of range": (
        {"image": tensors(changed(1.001)), "label": GOOD},
        "the column image has values outside [-1, 1] or not finite.",
    ),
    "label 10": (
        {"image": tensors(BLACK), "label": pa.array([0, 10], pa.uint8())},
        "the column label has the value 10; expected 0 to 9.",
    ),
    "null label": (
        {"image": tensors(BLACK), "label": pa.array([0, None], pa.uint8())},
        f"label: uint8 with nulls; {EXPECTED}",
    ),
}
