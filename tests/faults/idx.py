"""IDX files that are damaged or of another kind, each with the error message that it gets."""

import gzip
import struct

import numpy as np

from dcgan.data.idx import MAX_BYTES, idx_header

IMAGES = np.arange(3 * 784, dtype=np.uint32).astype(np.uint8).reshape(3, 28, 28)
LABELS = np.array([0, 9, 5], np.uint8)
IMAGE_BYTES = idx_header(IMAGES) + IMAGES.tobytes()
LABEL_BYTES = idx_header(LABELS) + LABELS.tobytes()
HTML = b"<!DOCTYPE html><html><body>Sign in to the network</body></html>"


def header(magic: int, *sizes: int) -> bytes:
    """Return the first bytes of an IDX file."""
    return struct.pack(f">{1 + len(sizes)}I", magic, *sizes)


BAD_IMAGES = {
    "empty": (b"", "byte 0: the file is empty; expected 0x00000803, IDX images (unsigned bytes, rank 3)."),
    "magic": (
        b"\x89PNG" + IMAGE_BYTES,
        "byte 0: the file begins with 0x89504e47; expected 0x00000803, IDX images (unsigned bytes, rank 3).",
    ),
    "type": (
        header(0x0D03, 3, 28, 28) + IMAGE_BYTES,
        "byte 0: the file begins with 0x00000d03; expected 0x00000803, IDX images (unsigned bytes, rank 3).",
    ),
    "rank": (
        header(0x0802, 3, 784) + IMAGE_BYTES,
        "byte 0: the file begins with 0x00000802; expected 0x00000803, IDX images (unsigned bytes, rank 3).",
    ),
    "labels for images": (
        LABEL_BYTES,
        "byte 0: the file begins with 0x00000801; expected 0x00000803, IDX images (unsigned bytes, rank 3).",
    ),
    "html": (
        HTML,
        "byte 0: the file is a web page; expected 0x00000803, IDX images (unsigned bytes, rank 3).",
    ),
    "gz of html": (
        gzip.compress(HTML),
        "byte 0: the file is a web page; expected 0x00000803, IDX images (unsigned bytes, rank 3).",
    ),
    "git lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9912422\n",
        "byte 0: the file is a Git LFS pointer, whose file `git lfs pull` fetches; expected 0x00000803, IDX images "
        "(unsigned bytes, rank 3).",
    ),
    "zip": (
        b"PK\x03\x04" + IMAGE_BYTES,
        "byte 0: the file is a zip archive, which must be unpacked; expected 0x00000803, IDX images (unsigned bytes, "
        "rank 3).",
    ),
    "gz in gz": (
        gzip.compress(gzip.compress(IMAGE_BYTES)),
        "byte 0: the file is gzipped twice; expected 0x00000803, IDX images (unsigned bytes, rank 3).",
    ),
    "header cut": (IMAGE_BYTES[:10], "byte 10: the header ends early; expected 16 bytes."),
    "sizes": (header(0x0803, 3, 32, 32) + bytes(3 * 1024), "byte 8: the images are 32x32; expected 28x28."),
    "zero images": (header(0x0803, 0, 28, 28), "byte 4: the file declares 0 images; expected at least 1."),
    "too many": (
        header(0x0803, 0xFFFFFFFF, 28, 28) + bytes(784),
        f"byte 4: the file declares 4294967295 images; at most {MAX_BYTES} bytes are read.",
    ),
    "raw cut": (IMAGE_BYTES[:-1], "byte 2367: the file ends early; expected 2368 bytes."),
    "raw declares more": (
        header(0x0803, 1_000_000, 28, 28) + bytes(784),
        "byte 4: the file declares 1000000 images but is too short to contain them.",
    ),
    "gz declares more": (
        gzip.compress(header(0x0803, 1_000_000, 28, 28) + bytes(784)),
        "byte 4: the file declares 1000000 images but is too short to contain them.",
    ),
    "gz short": (gzip.compress(IMAGE_BYTES[:-1]), "byte 2367: the file ends early; expected 2368 bytes."),
    "long": (IMAGE_BYTES + b"\0", "byte 2368: the file continues; expected 2368 bytes."),
    "bomb": (gzip.compress(IMAGE_BYTES + bytes(64 << 20)), "byte 2368: the file continues; expected 2368 bytes."),
    "gz cut": (
        gzip.compress(IMAGE_BYTES)[:-20],
        "the gzip stream is damaged: Compressed file ended before the end-of-stream marker was reached.",
    ),
    "gz checksum": (
        gzip.compress(IMAGE_BYTES)[:-8] + bytes(4) + gzip.compress(IMAGE_BYTES)[-4:],
        "byte 2368: the gzip stream is damaged: CRC check failed",
    ),
}
