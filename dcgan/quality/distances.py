"""Squared Euclidean distances between many points, a block of rows at a time so that memory stays bounded."""

from collections.abc import Iterator

import numpy as np

BLOCK_ELEMENTS = 10_000_000  # of a block of distances: 80 MB in float64


def distance_blocks(rows: np.ndarray, columns: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (which rows, their squared distances (block, m) from every column point) until all rows are done.

    Computed as |x|² - 2 xᵀy + |y|² in the points' own dtype; the rounding is that of the largest |x|².

    Args:
        rows: (n, d).
        columns: (m, d), same dtype.
    """
    column_norms = np.einsum("ij,ij->i", columns, columns)
    size = max(1, BLOCK_ELEMENTS // len(columns))
    for start in range(0, len(rows), size):
        block = slice(start, min(start + size, len(rows)))
        squared = rows[block] @ columns.T
        squared *= -2
        squared += column_norms
        squared += np.einsum("ij,ij->i", rows[block], rows[block])[:, None]
        yield block, squared
