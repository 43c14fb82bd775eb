"""The images of a Parquet file that need not be in memory together."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dcgan.parquet import row_group_sizes, row_groups
from dcgan.recipe import IMAGE_SHAPE


class ParquetImages:
    """The images of a Parquet file, none of them read yet.

    Args:
        path: the file, in the schema of dcgan/parquet.py.

    Attributes:
        path: as above.
        group_rows: the rows of each row group.

    Raises:
        DataError: the file is not of that schema; later, when images are read, one is not what it should be.
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
