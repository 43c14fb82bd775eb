"""The generator of a checkpoint, and its export for TensorFlow Serving."""

from pathlib import Path

import keras
import tensorflow as tf

from dcgan.files import atomic_folder
from dcgan.model.ema import EmaGenerator, assign_weights
from dcgan.model.networks import build_generator
from dcgan.recipe import LATENT_SIZE
from dcgan.training.checkpoint import Checkpoint


def selected_generator(checkpoint: Checkpoint) -> keras.Model:
    """Return the generator to register, in stock Keras layers: the best epoch's if it is kept, else the last one's."""
    configuration = checkpoint.metadata.configuration
    if checkpoint.best:
        generator = build_generator(negative_slope=configuration.recipe.negative_slope)
        assign_weights(generator, checkpoint.best)
        return generator
    return EmaGenerator(configuration.recipe, configuration.seed).generator(checkpoint.arrays)


def export_saved_model(generator: keras.Model, folder: Path) -> None:
    """Write `generator` as a TensorFlow SavedModel, complete or not at all.

    Its signature `serving_default` takes `latents` float32 (n, 100) and gives `images` float32 (n, 28, 28, 1) in
    [-1, 1]. TensorFlow Serving expects `folder` to be a number below the model's own folder.
    """
    archive = keras.export.ExportArchive()
    archive.track(generator)
    archive.add_endpoint(
        "serving_default",
        lambda latents: {"images": generator(latents, training=False)},
        input_signature=[tf.TensorSpec((None, LATENT_SIZE), tf.float32, name="latents")],
    )
    with atomic_folder(folder) as temporary:
        archive.write_out(temporary, verbose=False)
