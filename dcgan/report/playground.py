"""The playground: one HTML page with the generator in it, which a browser runs without a network.

The page has the weights as the network applies them: batch normalization is folded into the kernel before it, and the
kernels are in the order in which the page's script reads them.
"""

import base64
import gzip
import hashlib
from collections.abc import Mapping

import keras
import numpy as np

from dcgan.errors import ModelError
from dcgan.images import GRID_SIDE
from dcgan.model.networks import GENERATOR_LAYERS, require_layers
from dcgan.report.templates import TEMPLATES, environment

# what the script computes: the shape of each kernel, all but the last before a batch normalization and a rectifier
KERNELS = {
    "project": (100, 12544),
    "refine": (5, 5, 128, 256),
    "to_14x14": (5, 5, 64, 128),
    "to_28x28": (5, 5, 1, 64),
}
*NORMALIZED, LAST = KERNELS
DIRECTIONS = 6
BLOCK = 4  # output channels that the script computes together
COMPRESSION = 1  # the mantissas' bytes are noise, and those of the exponents are small at any level


def render_playground(generator: keras.Model, title: str, facts: Mapping[str, str]) -> str:
    """Return the page of a generator that `dcgan.model.networks.build_generator` built, about 10 MB; texts are escaped.

    Args:
        generator: The generator, in float32.
        title: Heading of the page.
        facts: Where the generator came from, by name.

    Raises:
        ModelError: The generator is another network than the page's script computes.
    """
    _require_known(generator)
    # without a final newline, so that the digest in the page's policy is that of the text between the tags
    script = (TEMPLATES / "playground.js").read_text(encoding="utf-8").strip()
    return (
        environment()
        .get_template("playground.html")
        .render(
            title=title,
            facts=facts,
            side=GRID_SIDE,
            directions=DIRECTIONS,
            script=script,
            script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            slopes=[float(generator.get_layer(f"{name}_relu").negative_slope) for name in NORMALIZED],
            weights=packed_weights(generator),
        )
    )


def packed_weights(generator: keras.Model) -> str:
    """Return everything that the script multiplies with, as base64 of gzip of float32.

    The floats' first bytes come first, then their second ones and so on: those that have exponents compress well. In
    order: kernel (100, 12544) and bias of the dense layer, kernel (25, out / 4, in, 4) and bias of each of two
    transposed convolutions, the kernel (25, 64) of the last one, and the latent directions (6, 100).
    """
    arrays = []
    for name in NORMALIZED:
        kernel, bias = _folded(generator, name)
        arrays += [kernel if kernel.ndim == 2 else _blocks(kernel), bias]
    last = generator.get_layer(LAST).get_weights()[0]
    first = arrays[0]
    values = np.concatenate([array.ravel() for array in (*arrays, last, latent_directions(first))]).astype("<f4")
    planes = values.view(np.uint8).reshape(-1, 4).T.tobytes()
    return base64.b64encode(gzip.compress(planes, COMPRESSION, mtime=0)).decode()


def latent_directions(kernel: np.ndarray) -> np.ndarray:
    """Return the orthonormal latent directions (6, 100) that change the first layer's outputs most.

    They are the first left singular vectors of its kernel (Shen and Zhou, "Closed-Form Factorization of Latent
    Semantics in GANs", https://arxiv.org/abs/2007.06600, equation 6).

    Args:
        kernel: Kernel of the first layer, (100, n).
    """
    _, vectors = np.linalg.eigh(kernel @ kernel.T)
    largest: np.ndarray = vectors[:, : -DIRECTIONS - 1 : -1].T
    # the sign of a singular vector is arbitrary; fixed, the same weights give the same page
    signs: np.ndarray = np.sign(largest[np.arange(DIRECTIONS), np.abs(largest).argmax(axis=1)])
    return largest * signs[:, None]


def _require_known(generator: keras.Model) -> None:
    expected = "those that playground.js computes (docs/copying.md)"
    require_layers(generator, GENERATOR_LAYERS, "The playground", expected)
    for name, known in KERNELS.items():
        if (shape := generator.get_layer(name).kernel.shape) != known:
            raise ModelError(
                f"The playground knows the layer {name} with a kernel {known}, not {shape}; expected {expected}."
            )


def _folded(generator: keras.Model, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel and bias float64 of a layer and its batch normalization together, as in inference."""
    (kernel,) = generator.get_layer(name).get_weights()
    norm = generator.get_layer(f"{name}_norm")
    gamma, beta, mean, variance = (array.astype(np.float64) for array in norm.get_weights())
    scale = gamma / np.sqrt(variance + norm.epsilon)
    if kernel.ndim == 2:
        return kernel * scale, beta - mean * scale
    return kernel * scale[:, None], beta - mean * scale  # (5, 5, out, in)


def _blocks(kernel: np.ndarray) -> np.ndarray:
    """Return a kernel (5, 5, out, in) as (25, out / 4, in, 4)."""
    height, width, outputs, inputs = kernel.shape
    blocks: np.ndarray = kernel.reshape(height * width, outputs // BLOCK, BLOCK, inputs).swapaxes(2, 3)
    return blocks
