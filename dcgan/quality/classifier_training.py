"""Training one of the classifiers: Adam, a rate that falls to zero, and pictures shifted by at most a pixel."""

import logging
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from dcgan.quality.classifiers import Plan
from dcgan.quality.view import check_images, check_labels
from dcgan.randomness import Stream, numpy_generator

logger = logging.getLogger(__name__)

SHIFT = 1  # pixels, each way


def train_classifier(plan: Plan, images: np.ndarray, labels: np.ndarray | None) -> keras.Model:
    """Return a classifier trained by `plan`; the same arguments on the same machine give the same bits.

    Args:
        plan: what is built and how it is trained.
        images: float32 (n, 28, 28, 1) in [-1, 1], n at least a batch.
        labels: integers (n,) from 0 to 9.

    Raises:
        DataError: images or labels are not these.
    """
    check_images(images, "training images", plan.batch_size)
    known = check_labels(labels, len(images), "training images")
    model = plan.build(plan.seed)
    steps = len(images) // plan.batch_size
    run = _compile_epoch(model, keras.optimizers.schedules.PolynomialDecay(plan.learning_rate, steps * plan.epochs, 0))
    windows = _shifted(images)
    for epoch in range(1, plan.epochs + 1):
        loss = run(*_batches(plan, epoch, windows, known))
        logger.info("Training the %s: epoch %d of %d, loss %.4f.", plan.role, epoch, plan.epochs, float(loss))
    return model


def _compile_epoch(
    model: keras.Model, schedule: keras.optimizers.schedules.LearningRateSchedule
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return the function that trains on batches (steps, batch, …) in one call and returns their mean loss."""
    optimizer = keras.optimizers.Adam(schedule, beta_2=0.99)
    optimizer.build(model.trainable_variables)

    @tf.function(reduce_retracing=False)
    def run(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        total = tf.constant(0.0)
        for step in tf.range(tf.shape(images)[0]):
            with tf.GradientTape() as tape:
                _, logits = model(images[step], training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels[step], logits)
                loss = tf.reduce_mean(losses)
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
            total += loss
        return total / tf.cast(tf.shape(images)[0], tf.float32)

    return run


def _shifted(images: np.ndarray) -> np.ndarray:
    """Return a view (n, 3, 3, 28, 28) of every shift of every image; what comes in at the edge is background, -1."""
    padded = np.pad(images[..., 0], ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)), constant_values=-1)
    return np.lib.stride_tricks.sliding_window_view(padded, images.shape[1:3], axis=(1, 2))


def _batches(plan: Plan, epoch: int, windows: np.ndarray, labels: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
    """Return an epoch's images float32 (steps, batch, 28, 28, 1) and labels int32 (steps, batch)."""
    draw = numpy_generator(plan.seed, Stream.ORDER, epoch)
    steps = len(windows) // plan.batch_size
    rows = draw.permutation(len(windows))[: steps * plan.batch_size]
    down, right = draw.integers(2 * SHIFT + 1, size=(2, len(rows)))
    shape = (steps, plan.batch_size)
    images = windows[rows, down, right].reshape(*shape, *windows.shape[3:], 1)
    return tf.constant(images), tf.constant(labels[rows].astype(np.int32).reshape(shape))
