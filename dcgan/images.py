"""Images as pixels: the sample grid of the fixed latents, and the animation of its progress."""

from pathlib import Path

import imageio.v3 as imageio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dcgan.files import atomic_file

GRID_SIDE = 4
FRAME_MILLISECONDS = 200
LAST_FRAME_MILLISECONDS = 3000
FRAME_SCALE = 3
LABEL_HEIGHT = 28


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Return images float in [-1, 1] as uint8, -1 → 0 and 1 → 255, by fixed limits: contrast is never stretched."""
    return np.rint(np.clip(images, -1, 1) * 127.5 + 127.5).astype(np.uint8)


def image_grid(images: np.ndarray, columns: int = GRID_SIDE) -> np.ndarray:
    """Return images as one grid, row by row.

    Args:
        images: Images, float (rows · columns, height, width, 1) in [-1, 1].
        columns: Number of images in a row.

    Returns:
        The grid, uint8 (rows · height, columns · width).
    """
    count, height, width, _ = images.shape
    tiles = to_uint8(images).reshape(count // columns, columns, height, width)
    return tiles.swapaxes(1, 2).reshape(count // columns * height, columns * width)


def upscaled(images: np.ndarray, factor: int = FRAME_SCALE) -> np.ndarray:
    """Return images uint8 (..., height, width) with every pixel as a square of `factor` × `factor` pixels."""
    return images.repeat(factor, axis=-2).repeat(factor, axis=-1)


def png_bytes(image: np.ndarray) -> bytes:
    """Return a grey image uint8 (height, width) as a PNG file's bytes."""
    return imageio.imwrite("<bytes>", image, extension=".png")


def frame_schedule(count: int) -> list[int]:
    """Return which of `count` grids become frames, by the reference's rule: early epochs change most and get more.

    Grid i (from 0) is kept when round(2·√i) exceeds the last value kept; the last grid is always the last frame.
    """
    kept: list[int] = []
    last = -1.0
    for index in range(count):
        position = 2 * index**0.5
        if round(position) > round(last):
            last = position
            kept.append(index)
    return kept if kept[-1:] == [count - 1] or not count else [*kept, count - 1]


def write_animation(path: Path, grids: np.ndarray, epochs: list[int] | None = None) -> int:
    """Write the grids that the schedule keeps as a GIF that loops and pauses on its last frame.

    Args:
        path: The file, replaced when the new one is complete.
        grids: Sample grids, uint8 (count, height, width), one for each epoch.
        epochs: Epoch of each grid, drawn below its frame; None draws nothing.

    Returns:
        The number of frames.
    """
    schedule = frame_schedule(len(grids))
    frames = upscaled(grids[schedule])
    if epochs is not None:
        frames = np.stack([_labelled(f, f"epoch {epochs[i]}") for f, i in zip(frames, schedule, strict=True)])
    durations = [FRAME_MILLISECONDS] * (len(schedule) - 1) + [LAST_FRAME_MILLISECONDS]
    with atomic_file(path) as temporary:
        temporary.write_bytes(animation_bytes(frames, durations))
    return len(schedule)


def animation_bytes(frames: np.ndarray, milliseconds: list[int]) -> bytes:
    """Return grey frames uint8 (count, height, width) with their durations as the bytes of a GIF that loops."""
    # Pillow takes a list of durations for more than one frame only
    duration = milliseconds if len(milliseconds) > 1 else milliseconds[0]
    return imageio.imwrite("<bytes>", frames, extension=".gif", duration=duration, loop=0)


def _labelled(frame: np.ndarray, text: str) -> np.ndarray:
    """Return a frame with a line of text in a black strip below it."""
    height, width = frame.shape
    image = Image.new("L", (width, height + LABEL_HEIGHT))
    image.paste(Image.fromarray(frame))
    position = (width // 2, height + LABEL_HEIGHT // 2)
    ImageDraw.Draw(image).text(position, text, fill=255, font=ImageFont.load_default(16), anchor="mm")
    return np.asarray(image)
