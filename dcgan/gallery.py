"""Generated images as a folder of PNG files, one grid, or a Parquet file; written as they come, whole or absent."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from dcgan.errors import ConfigurationError, DataError
from dcgan.files import atomic_file, atomic_folder
from dcgan.parquet import MAX_ROWS, ROW_GROUP_ROWS, write_row_groups
from dcgan.recipe import IMAGE_SIZE
from dcgan.rendering import png_bytes, to_uint8

MAX_GRID = 10_000  # a picture of 2800 × 2800 pixels

Form = Literal["folder", "grid", "parquet"]
Labeller = Callable[[np.ndarray], np.ndarray]
"""From images float32 (n, 28, 28, 1) in [-1, 1] to labels uint8 (n,)."""


def form_of(out: Path, count: int) -> Form:
    """Return what `count` images become in `out`, which its name says.

    Raises:
        ConfigurationError: the name is of something else, the images are too many, or `out` is a folder in use.
    """
    forms: dict[str, tuple[Form, int]] = {
        "": ("folder", MAX_ROWS),
        ".png": ("grid", MAX_GRID),
        ".parquet": ("parquet", MAX_ROWS),
    }
    if out.suffix not in forms:
        raise ConfigurationError(f"{out}: cannot be written; expected a folder, or a name in .png or .parquet.")
    form, most = forms[out.suffix]
    if count > most:
        raise ConfigurationError(f"{out}: cannot hold {count} images; expected at most {most}.")
    if form != "folder" and out.is_dir():
        raise ConfigurationError(f"{out}: is a folder; expected the name of a file.")
    if form == "folder" and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigurationError(f"{out}: exists; expected the name of a new folder, or an empty one.")
    return form


def write_folder(out: Path, batches: Iterable[np.ndarray]) -> None:
    """Write images as the files 0000000.png, 0000001.png and so on of a new folder.

    Args:
        out: the folder.
        batches: images float32 (n, 28, 28, 1) in [-1, 1].

    Raises:
        DataError: `out` cannot be written.
    """
    number = 0
    with _told_in_a_sentence(out), atomic_folder(out) as folder:
        for images in batches:
            for picture in to_uint8(images[..., 0]):
                (folder / f"{number:07d}.png").write_bytes(png_bytes(picture))
                number += 1


def write_grid(out: Path, count: int, batches: Iterable[np.ndarray]) -> None:
    """Write images as one picture about as wide as high, row by row; what is left of the last row stays black.

    Args:
        out: the file.
        count: how many images the batches hold together.
        batches: images float32 (n, 28, 28, 1) in [-1, 1].

    Raises:
        DataError: `out` cannot be written.
    """
    columns = math.isqrt(count - 1) + 1
    tiles = np.zeros((-(-count // columns), columns, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    flat, filled = tiles.reshape(-1, IMAGE_SIZE, IMAGE_SIZE), 0
    for images in batches:
        flat[filled : filled + len(images)] = to_uint8(images[..., 0])
        filled += len(images)
    with _told_in_a_sentence(out), atomic_file(out) as file:
        file.write_bytes(png_bytes(tiles.swapaxes(1, 2).reshape(-1, columns * IMAGE_SIZE)))


def write_labelled(out: Path, batches: Iterable[np.ndarray], label: Labeller, metadata: dict[str, str]) -> None:
    """Write images as a Parquet file in the schema of the prepared data sets, one row group after another.

    Args:
        out: the file.
        batches: images float32 (n, 28, 28, 1) in [-1, 1].
        label: gives the labels.
        metadata: kept in the file's schema.

    Raises:
        DataError: `out` cannot be written.
    """
    groups = ((images, label(images)) for images in _row_groups(batches))
    with _told_in_a_sentence(out), atomic_file(out) as file:
        write_row_groups(file, groups, metadata)


@contextmanager
def _told_in_a_sentence(out: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0].rstrip(".")
        raise DataError(f"{out}: cannot be written: {reason}.") from None


def _row_groups(batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the batches put together to the rows of a row group, or a few more."""
    held: list[np.ndarray] = []
    for images in batches:
        held.append(images)
        if sum(map(len, held)) >= ROW_GROUP_ROWS:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)
