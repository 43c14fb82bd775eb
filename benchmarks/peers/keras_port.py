"""The seed in today's Keras and TensorFlow, as TensorFlow's DCGAN tutorial writes it."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from benchmarks.serving import serve

IMAGES = 8192


def make_generator() -> keras.Model:
    """Return the seed's generator."""
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
            layers.Conv2DTranspose(1, 5, strides=2, padding="same", use_bias=False, activation="tanh"),
        ]
    )


def make_discriminator() -> keras.Model:
    """Return the seed's discriminator."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(64, 5, strides=2, padding="same"),
            layers.LeakyReLU(),
            layers.Dropout(0.3),
            layers.Conv2D(128, 5, strides=2, padding="same"),
            layers.LeakyReLU(),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )


def make(batch_size: int) -> Callable[[int], None]:
    """Return a function that takes training steps on shuffled batches of a tf.data pipeline."""
    generator, discriminator = make_generator(), make_discriminator()
    generator_optimizer, discriminator_optimizer = keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-4)
    generator_optimizer.build(generator.trainable_variables)
    discriminator_optimizer.build(discriminator.trainable_variables)
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)

    @tf.function
    def train_step(images: tf.Tensor) -> None:
        noise = tf.random.normal([batch_size, 100])
        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            generated = generator(noise, training=True)
            real_output = discriminator(images, training=True)
            generated_output = discriminator(generated, training=True)
            generator_loss = cross_entropy(tf.ones_like(generated_output), generated_output)
            discriminator_loss = cross_entropy(tf.ones_like(real_output), real_output)
            discriminator_loss += cross_entropy(tf.zeros_like(generated_output), generated_output)
        generator_gradients = generator_tape.gradient(generator_loss, generator.trainable_variables)
        discriminator_gradients = discriminator_tape.gradient(discriminator_loss, discriminator.trainable_variables)
        generator_optimizer.apply_gradients(zip(generator_gradients, generator.trainable_variables, strict=True))
        discriminator_optimizer.apply_gradients(
            zip(discriminator_gradients, discriminator.trainable_variables, strict=True)
        )

    images = np.random.default_rng(0).uniform(-1, 1, (IMAGES, 28, 28, 1)).astype(np.float32)
    dataset = tf.data.Dataset.from_tensor_slices(images).repeat().shuffle(IMAGES)
    batches = iter(dataset.batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE))

    def run(steps: int) -> None:
        for _ in range(steps):
            train_step(next(batches))
        generator_optimizer.iterations.numpy()  # waits for the last step

    return run


if __name__ == "__main__":
    serve(make, {"tensorflow": tf.__version__, "keras": keras.__version__})
