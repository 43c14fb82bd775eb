"""From latents to images, and from images to files: batches, latent interpolation, and what a name in a path asks for.

The n-th image of a seed depends on the seed alone, not on how many are asked for. Files are written batch by batch, and
are complete or absent.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from dcgan.data.parquet import MAX_ROWS, ROW_GROUP_ROWS, write_row_groups
from dcgan.errors import ConfigurationError, DataError, ModelError
from dcgan.files import atomic_file, atomic_folder, first_line
from dcgan.images import png_bytes, to_uint8
from dcgan.recipe import IMAGE_SHAPE, IMAGE_SIZE, LATENT_SIZE
from dcgan.rng import Stream, numpy_generator

BATCH_ROWS = 512
MAX_GRID = 10_000  # an image of 2800 × 2800 pixels

Generator = Callable[[np.ndarray], np.ndarray]
"""Maps latents float32 (n, 100) to images float32 (n, 28, 28, 1) in [-1, 1]."""

Labeller = Callable[[np.ndarray], np.ndarray]
"""Maps images float32 (n, 28, 28, 1) in [-1, 1] to labels uint8 (n,)."""

OutputFormat = Literal["folder", "grid", "parquet"]


def generated_batches(generator: Generator, seed: int, stream: Stream, count: int) -> Iterator[np.ndarray]:
    """Yield `count` images in batches float32 (at most 512, 28, 28, 1) in [-1, 1].

    Args:
        generator: Makes the images; it always gets a full batch, since another batch size may round differently.
        seed: Seed of the latents.
        stream: What the images are for.
        count: Number of images, at least one.

    Raises:
        ModelError: The generator's output is not such images.
    """
    for index in range(-(-count // BATCH_ROWS)):
        latents = numpy_generator(seed, stream, index).standard_normal((BATCH_ROWS, LATENT_SIZE), dtype=np.float32)
        images = generator(latents)
        _require_images(images)
        yield images[: count - index * BATCH_ROWS]


def require_latents(latents: np.ndarray) -> None:
    """Refuse latents that a generator would answer with nothing, with NaN, or with an error of TensorFlow's.

    Raises:
        DataError: They are not float32 (n, 100) with n at least 1, or not all finite.
    """
    expected = f"float32 (n, {LATENT_SIZE}) with n at least 1, all finite"
    if latents.dtype != np.float32 or latents.ndim != 2 or latents.shape[1] != LATENT_SIZE or len(latents) == 0:
        raise DataError(f"The latents are {latents.dtype} {latents.shape}; expected {expected}.")
    if not np.isfinite(latents).all():
        raise DataError(f"The latents are not all finite; expected {expected}.")


def spherical_interpolation(start: np.ndarray, end: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Return sin((1 - t) Ω) / sin Ω · start + sin(t Ω) / sin Ω · end for each fraction t, where Ω is their angle.

    Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985, section 3.3, for latents by White,
    https://arxiv.org/abs/1609.04468, section 2.1: normal vectors lie near a sphere, and a straight line between two
    would leave it.

    Args:
        start: First vector, (d,), not opposite to `end`.
        end: Last vector, (d,). Neither is zero.
        fractions: Fractions of the way, (n,) from 0 to 1.

    Returns:
        Vectors (n, d); between vectors of equal length, all of that length.
    """
    cosine = start @ end / (np.linalg.norm(start) * np.linalg.norm(end))
    angle = np.arccos(np.clip(cosine, -1, 1))
    return np.outer(_sine_weight(1 - fractions, angle), start) + np.outer(_sine_weight(fractions, angle), end)


def closed_walk(latents: np.ndarray, steps: int) -> np.ndarray:
    """Return latents float32 (n · steps, d) that pass through `latents` (n, d), each `steps` after the one before.

    The last is one step before the first, so images of them make an animation that loops without a jump.
    """
    fractions = np.arange(steps) / steps
    wide = latents.astype(np.float64)
    arcs = [spherical_interpolation(*pair, fractions) for pair in zip(wide, np.roll(wide, -1, axis=0), strict=True)]
    return np.concatenate(arcs).astype(np.float32)


def output_format(out: Path, count: int) -> OutputFormat:
    """Return in which format `count` images are written to `out`, which its name says.

    Raises:
        ConfigurationError: The name has another extension, the images are too many, or `out` is a folder in use.
    """
    formats: dict[str, tuple[OutputFormat, int]] = {
        "": ("folder", MAX_ROWS),
        ".png": ("grid", MAX_GRID),
        ".parquet": ("parquet", MAX_ROWS),
    }
    if out.suffix.lower() not in formats:
        raise ConfigurationError(
            f"{out}: cannot be written as {out.suffix}; expected .png, .parquet, or the name of a folder without a dot."
        )
    found, most = formats[out.suffix.lower()]
    if count > most:
        raise ConfigurationError(f"{out}: cannot contain {count} images; expected at most {most}.")
    if found != "folder" and out.is_dir():
        raise ConfigurationError(f"{out}: is a folder; expected the name of a file.")
    if found == "folder" and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigurationError(f"{out}: exists; expected the name of a new folder, or an empty one.")
    return found


def write_folder(out: Path, batches: Iterable[np.ndarray]) -> None:
    """Write images as the files 0000000.png, 0000001.png and so on of a new folder.

    Args:
        out: The folder.
        batches: Images, float32 (n, 28, 28, 1) in [-1, 1].

    Raises:
        DataError: `out` cannot be written.
    """
    number = 0
    with _translated_errors(out), atomic_folder(out.resolve(), overwrite=False) as folder:
        for images in batches:
            for image in to_uint8(images[..., 0]):
                (folder / f"{number:07d}.png").write_bytes(png_bytes(image))
                number += 1


def write_grid(out: Path, count: int, batches: Iterable[np.ndarray]) -> None:
    """Write images as one grid about as wide as high, row by row; the rest of the last row stays black.

    Args:
        out: The file.
        count: Number of images in all batches.
        batches: Images, float32 (n, 28, 28, 1) in [-1, 1].

    Raises:
        DataError: `out` cannot be written.
    """
    columns = math.isqrt(count - 1) + 1
    tiles = np.zeros((-(-count // columns), columns, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    flat, filled = tiles.reshape(-1, IMAGE_SIZE, IMAGE_SIZE), 0
    for images in batches:
        flat[filled : filled + len(images)] = to_uint8(images[..., 0])
        filled += len(images)
    with _translated_errors(out), atomic_file(out) as file:
        file.write_bytes(png_bytes(tiles.swapaxes(1, 2).reshape(-1, columns * IMAGE_SIZE)))


def write_labelled(out: Path, batches: Iterable[np.ndarray], label: Labeller, metadata: dict[str, str]) -> None:
    """Write images as a Parquet file in the schema of the prepared datasets, one row group after another.

    Args:
        out: The file.
        batches: Images, float32 (n, 28, 28, 1) in [-1, 1].
        label: Gives the labels.
        metadata: Key-value metadata of the file's schema.

    Raises:
        DataError: `out` cannot be written.
    """
    groups = ((images, label(images)) for images in _row_groups(batches))
    with _translated_errors(out), atomic_file(out) as file:
        write_row_groups(file, groups, metadata)


def _require_images(images: np.ndarray) -> None:
    expected = f"float32 ({BATCH_ROWS}, {', '.join(map(str, IMAGE_SHAPE))}) from -1 to 1"
    if images.shape != (BATCH_ROWS, *IMAGE_SHAPE) or images.dtype != np.float32:
        raise ModelError(f"The generator returns {images.dtype} {images.shape}; expected {expected}.")
    if not (images.min() >= -1 and images.max() <= 1):  # also false for NaN
        raise ModelError(f"The generator returns values outside [-1, 1] or not finite; expected {expected}.")


def _sine_weight(fractions: np.ndarray, angle: float) -> np.ndarray:
    """Return sin(t Ω) / sin Ω, which is t where Ω is 0."""
    weights: np.ndarray = fractions * np.sinc(fractions * angle / np.pi) / np.sinc(angle / np.pi)
    return weights


@contextmanager
def _translated_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise DataError(f"{out}: cannot be written: {reason}.") from None


def _row_groups(batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the batches concatenated to the rows of a row group, or a few more."""
    pending: list[np.ndarray] = []
    for images in batches:
        pending.append(images)
        if sum(map(len, pending)) >= ROW_GROUP_ROWS:
            yield np.concatenate(pending)
            pending = []
    if pending:
        yield np.concatenate(pending)
