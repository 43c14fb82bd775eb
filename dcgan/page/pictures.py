"""Pictures within a page: PNG and GIF as data: addresses, small enough that the page stays a file to send around."""

import base64

import numpy as np

from dcgan.rendering import animation_bytes, image_grid, png_bytes, to_uint8

FRAME_MILLISECONDS = 60
HELD_MILLISECONDS = 400


def png(picture: np.ndarray) -> str:
    """Return a grey picture uint8 (height, width)."""
    return _data("image/png", png_bytes(picture))


def image(pixels: np.ndarray) -> str:
    """Return one image float (28, 28, 1) in [-1, 1]."""
    return png(to_uint8(pixels[..., 0]))


def grid(images: np.ndarray) -> str:
    """Return images float (n, 28, 28, 1) in [-1, 1], n a multiple of 4, in rows of four."""
    return png(image_grid(images))


def walk(images: np.ndarray, steps: int) -> str:
    """Return images float (n, 28, 28, 1) in [-1, 1] as an animation that holds every `steps`-th and loops."""
    held = [HELD_MILLISECONDS if index % steps == 0 else FRAME_MILLISECONDS for index in range(len(images))]
    return _data("image/gif", animation_bytes(to_uint8(images[..., 0]), held))


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
