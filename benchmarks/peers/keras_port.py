"""The reference implementation in today's Keras and TensorFlow, as its users write it; and what `fast` adds."""

from collections.abc import Callable
from itertools import count, islice

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from benchmarks.worker import serve

IMAGES = 8192
# of `fast`
DISCRIMINATOR_MAPS = 32
HIDDEN_UNITS = 256
R1_GAMMA = 1.0
PENALTY_INTERVAL = 4


def make_generator() -> keras.Model:
    """Return the reference implementation's generator."""
    return keras.Sequential(
        [
            keras.Input((100,)),
            layers.Dense(7 * 7 * 256, use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Reshape((7, 7, 256)),
            layers.Conv2DTranspose(128, 5, strides=1, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Conv2DTranspose(64, 5, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Conv2DTranspose(1, 5, strides=2, padding="same", use_bias=False, activation="tanh", dtype="float32"),
        ]
    )


def make_discriminator(recipe: str = "classic") -> keras.Model:
    """Return the reference implementation's discriminator, or that of `fast`."""
    dropout = [] if recipe == "fast" else [layers.Dropout(0.3)]
    maps = DISCRIMINATOR_MAPS if recipe == "fast" else 64
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(maps, 5, strides=2, padding="same"),
            layers.LeakyReLU(),
            *dropout,
            layers.Conv2D(2 * maps, 5, strides=2, padding="same"),
            layers.LeakyReLU(),
            *dropout,
            layers.Flatten(),
            *([layers.Dense(HIDDEN_UNITS), layers.LeakyReLU()] if recipe == "fast" else []),
            layers.Dense(1, dtype="float32"),
        ]
    )


def make(batch_size: int, recipe: str, precision: str = "float32") -> Callable[[int], None]:
    """Return a function that runs training steps on shuffled batches of a tf.data pipeline."""
    keras.config.set_dtype_policy(precision)
    generator, discriminator = make_generator(), make_discriminator(recipe)
    generator_optimizer, discriminator_optimizer = keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-4)
    generator_optimizer.build(generator.trainable_variables)
    discriminator_optimizer.build(discriminator.trainable_variables)
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)

    @tf.function
    def train_step(images: tf.Tensor, *, penalized: bool) -> None:
        noise = tf.random.normal([batch_size, 100])
        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            generated = generator(noise, training=True)
            real_output = discriminator(images, training=True)
            generated_output = discriminator(generated, training=True)
            generator_loss = cross_entropy(tf.ones_like(generated_output), generated_output)
            discriminator_loss = cross_entropy(tf.ones_like(real_output), real_output)
            discriminator_loss += cross_entropy(tf.zeros_like(generated_output), generated_output)
            if penalized:
                with tf.GradientTape() as penalty_tape:
                    penalty_tape.watch(images)
                    output = discriminator(images, training=True)
                squared_norms = tf.reduce_sum(penalty_tape.gradient(output, images) ** 2, axis=[1, 2, 3])
                discriminator_loss += R1_GAMMA / 2 * PENALTY_INTERVAL * tf.reduce_mean(squared_norms)
        generator_gradients = generator_tape.gradient(generator_loss, generator.trainable_variables)
        discriminator_gradients = discriminator_tape.gradient(discriminator_loss, discriminator.trainable_variables)
        generator_optimizer.apply_gradients(zip(generator_gradients, generator.trainable_variables, strict=True))
        discriminator_optimizer.apply_gradients(
            zip(discriminator_gradients, discriminator.trainable_variables, strict=True)
        )

    images = np.random.default_rng(0).uniform(-1, 1, (IMAGES, 28, 28, 1)).astype(np.float32)
    dataset = tf.data.Dataset.from_tensor_slices(images).repeat().shuffle(IMAGES)
    batches = iter(dataset.batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE))

    taken = count()

    def run(steps: int) -> None:
        for step in islice(taken, steps):
            train_step(next(batches), penalized=recipe == "fast" and step % PENALTY_INTERVAL == 0)
        generator_optimizer.iterations.numpy()  # waits for the last step

    return run


if __name__ == "__main__":
    serve(make, {"tensorflow": tf.__version__, "keras": keras.__version__})
