"""The generator as others load it: a Keras file, or a SavedModel for TensorFlow Serving."""

from pathlib import Path

import keras
import tensorflow as tf

from dcgan.files import atomic_folder
from dcgan.recipe import LATENT_SIZE


def export_saved_model(generator: keras.Model, folder: Path) -> None:
    """Write `generator` as a TensorFlow SavedModel, whole or not at all.

    Its signature `serving_default` takes `latents` float32 (n, 100) and gives `images` float32 (n, 28, 28, 1) in
    [-1, 1]. TensorFlow Serving wants `folder` to be a number below the model's own folder.
    """

    @tf.function(input_signature=[tf.TensorSpec((None, LATENT_SIZE), tf.float32, name="latents")])
    def serve(latents: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"images": generator(latents, training=False)}

    module = tf.Module()
    module.generator = generator
    with atomic_folder(folder) as temporary:
        tf.saved_model.save(module, str(temporary), signatures={"serving_default": serve})
