"""The generator of a checkpoint, and its export for TensorFlow Serving and ONNX Runtime."""

import hashlib
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tf2onnx

from dcgan.files import atomic_folder
from dcgan.model.ema import assign_weights
from dcgan.model.networks import build_generator
from dcgan.recipe import LATENT_SIZE
from dcgan.training.checkpoint import Checkpoint

ONNX_FILE = "generator.onnx"
ONNX_OPSET = 17  # ONNX Runtime has it since 1.12, of 2022


def selected_generator(checkpoint: Checkpoint) -> keras.Model:
    """Return the generator to register, in stock Keras layers."""
    generator = build_generator(recipe=checkpoint.metadata.configuration.recipe)
    assign_weights(generator, checkpoint.selected_weights)
    return generator


def generator_sha256(generator: keras.Model) -> str:
    """Return the SHA-256 of a generator's weights, moving statistics too: float32 little-endian, in layer order."""
    digest = hashlib.sha256()
    for weight in generator.weights:
        digest.update(np.ascontiguousarray(weight, "<f4").tobytes())
    return digest.hexdigest()


def export_generator(generator: keras.Model, folder: Path) -> None:
    """Write `generator` as a TensorFlow SavedModel with a file `generator.onnx` in it, complete or not at all.

    Both take `latents` float32 (n, 100) and give `images` float32 (n, 28, 28, 1) in [-1, 1], for any n; the signature
    of the SavedModel is `serving_default`. TensorFlow Serving expects `folder` to be a number below the model's own
    folder, and does not read files in it that it does not know.

    Raises:
        FileExistsError: The folder has any content.
    """
    latents_spec = tf.TensorSpec((None, LATENT_SIZE), tf.float32, name="latents")

    def serve(latents: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"images": generator(latents, training=False)}

    archive = keras.export.ExportArchive()
    archive.track(generator)
    archive.add_endpoint("serving_default", serve, input_signature=[latents_spec])
    with atomic_folder(folder, overwrite=False) as temporary:
        archive.write_out(temporary, verbose=False)
        (temporary / ONNX_FILE).write_bytes(_onnx_bytes(serve, latents_spec))


def _onnx_bytes(serve: object, latents_spec: tf.TensorSpec) -> bytes:
    function = tf.function(serve, input_signature=[latents_spec], autograph=False)
    model, _ = tf2onnx.convert.from_function(function, input_signature=[latents_spec], opset=ONNX_OPSET)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    content: bytes = model.SerializeToString()
    return content
