"""The adversarial training step: both networks, both optimizers, and a function that runs many steps in one call."""

from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from dcgan.device import DeviceChoice, choose_devices, replica_part, resolve_convolution
from dcgan.errors import CheckpointError
from dcgan.grid import discriminator_training_pass, generator_training_pass, pairs_training_pass
from dcgan.losses import discriminator_loss, generator_loss, slopes
from dcgan.networks import build_discriminator, build_generator
from dcgan.optimizer import adam
from dcgan.penalty import penalty_gradients
from dcgan.randomness import Stream
from dcgan.recipe import IMAGE_SHAPE, LATENT_SIZE, PENALTY_INTERVAL, Recipe
from dcgan.showcase import AVERAGE, average_decay


class StepMetrics(NamedTuple):
    """What a sequence of steps measured; every field is float32 (steps,)."""

    generator_loss: np.ndarray
    discriminator_loss: np.ndarray
    real_accuracy: np.ndarray
    generated_accuracy: np.ndarray


class Gan:
    """Everything that training changes, and the step that changes it.

    Args:
        recipe: the hyperparameters.
        seed: of the initial weights, the latents and the dropout masks.
        images: float32 (n, 28, 28, 1) in [-1, 1], the training images; they are put on every device.
        device: `auto`, `cpu` or `gpu`.
        rows: of the whole training set, where `images` have only the size of a part, and others will replace them.

    Attributes:
        devices: those that were chosen.
        convolution: how the large convolutions are computed, `direct` or `dft`.

    Raises:
        DeviceError: there is no GPU, or the batch cannot be divided among several.
        ConfigurationError: dft convolutions in mixed precision.
    """

    def __init__(
        self, recipe: Recipe, seed: int, images: np.ndarray, device: DeviceChoice = "auto", rows: int | None = None
    ) -> None:
        self.recipe = recipe
        self.seed = seed
        self.devices = choose_devices(device)
        self.devices.require_divisible(recipe.batch_size)
        self.convolution = resolve_convolution(recipe.convolution, recipe.precision, self.devices.kind)
        with self.devices.strategy.scope():
            self.generator = build_generator(seed, self.convolution, recipe.precision, recipe.leaky_slope)
            self.discriminator = build_discriminator(
                seed,
                self.convolution,
                recipe.precision,
                recipe.leaky_slope,
                recipe.dropout_rate,
                recipe.hidden_units,
            )
            steps = recipe.epochs * ((rows or len(images)) // recipe.batch_size)
            self.generator_optimizer = adam(recipe.generator_learning_rate, recipe, steps, "generator_adam")
            self.discriminator_optimizer = adam(recipe.discriminator_learning_rate, recipe, steps, "discriminator_adam")
            # built before the first trace: otherwise the step is traced twice, and restoring would miss the moments
            self.generator_optimizer.build(self.generator.trainable_variables)
            self.discriminator_optimizer.build(self.discriminator.trainable_variables)
            self._averages = _copies(self.generator) if recipe.average_half_life_images else []
            self._images = tf.Variable(images, trainable=False)
        orders = tf.TensorSpec([None, recipe.batch_size], tf.int32)
        self._run = tf.function(self._run_steps, input_signature=[orders, tf.TensorSpec([], tf.int32)])
        self._generate = tf.function(self._inference, input_signature=[tf.TensorSpec([None, LATENT_SIZE], tf.float32)])

    def replace_images(self, kept: np.ndarray, blocks: Iterable[np.ndarray]) -> None:
        """Put other images in the place of those on every device; what is in memory besides is one block.

        Args:
            kept: the rows of images that stay; they become the first ones.
            blocks: the others, float32 (n, 28, 28, 1) in [-1, 1]; with those, no more than there were in the beginning.
        """
        filled = 0
        for images in chain([tf.gather(self._images, kept).numpy()], blocks):
            rows = np.arange(filled, filled + len(images))
            self.devices.strategy.extended.update(self._images, _write, args=(rows, images))
            filled += len(images)

    def run(self, order: np.ndarray, first_step: int) -> StepMetrics:
        """Train on batches in one compiled call.

        Args:
            order: int32 (steps, batch_size), the rows of each batch.
            first_step: the number of the first step since the training began, from 0; all randomness derives from it.
        """
        metrics = self._run(tf.constant(order), tf.constant(first_step, tf.int32))
        return StepMetrics(*(metric.numpy() for metric in metrics))

    def generate(self, latents: np.ndarray) -> np.ndarray:
        """Return images float32 (n, 28, 28, 1) for latents float32 (n, 100), batch statistics not touched."""
        return self._generate(latents).numpy()

    def state(self) -> dict[str, np.ndarray]:
        """Return a copy of every array that training changes, by name, generator first, each network in layer order."""
        return {name: variable.numpy() for name, variable in self._variables().items()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Set every variable from `state`.

        Raises:
            CheckpointError: a name is missing or unknown, or a shape or dtype differs; nothing is changed then.
        """
        variables = self._variables()
        if unlike := sorted(variables.keys() ^ state.keys()):
            raise CheckpointError(
                f"The checkpoint's arrays are not this model's: {', '.join(unlike[:3])} (of {len(unlike)})."
            )
        for name, variable in variables.items():
            if (tuple(variable.shape), variable.dtype) != (state[name].shape, str(state[name].dtype)):
                raise CheckpointError(
                    f"The checkpoint's {name} is {state[name].dtype} {state[name].shape}; "
                    f"expected {variable.dtype} {tuple(variable.shape)}."
                )
        for name, variable in variables.items():
            variable.assign(state[name])

    def _variables(self) -> dict[str, keras.Variable]:
        groups = (self.generator, self.discriminator, self.generator_optimizer, self.discriminator_optimizer)
        named = {f"{group.name}/{_within(group, v)}": v for group in groups for v in _variables_of(group)}
        weights = self.generator.trainable_variables if self._averages else []
        averages = zip(weights, self._averages, strict=True)
        return named | {f"{AVERAGE}/{_within(self.generator, weight)}": average for weight, average in averages}

    def _inference(self, latents: tf.Tensor) -> tf.Tensor:
        return self.generator(latents, training=False)

    def _run_steps(self, order: tf.Tensor, first_step: tf.Tensor) -> list[tf.Tensor]:
        strategy = self.devices.strategy
        steps = tf.shape(order)[0]
        histories = [tf.TensorArray(tf.float32, steps) for _ in StepMetrics._fields]
        for index in tf.range(steps):
            shares = strategy.run(self._step, args=(order[index], first_step + index))
            metrics = [strategy.reduce(tf.distribute.ReduceOp.SUM, share, axis=None) for share in shares]
            histories = [history.write(index, metric) for history, metric in zip(histories, metrics, strict=True)]
        return [history.stack() for history in histories]

    def _step(self, rows: tf.Tensor, step: tf.Tensor) -> list[tf.Tensor]:
        """Update both networks on one device, from gradients that are both taken before either update.

        Returns:
            This device's share of each metric; the metric is the sum of all shares.
        """
        images, latents = self._draw(rows, step)
        with tf.GradientTape() as generator_tape:
            generated = self._generator_pass(latents)
        with tf.GradientTape() as discriminator_tape:
            discriminator_tape.watch(generated)
            logits = self._pairs_pass(images, generated, self._seed(Stream.DROPOUT, step))
        real_logits, generated_logits = tf.unstack(tf.reshape(logits, [-1, 2]), axis=1)

        slope = slopes(real_logits, generated_logits)
        logit_gradients = tf.reshape(tf.stack([slope.real, slope.generated], axis=1), [-1, 1]) / self.recipe.batch_size
        *gradients_d, at_generated = discriminator_tape.gradient(
            logits, [*_tensors(self.discriminator), generated], output_gradients=logit_gradients
        )
        at_generated *= tf.reshape(slope.ratio, [-1, 1, 1, 1])
        gradients_g = generator_tape.gradient(generated, _tensors(self.generator), output_gradients=at_generated)
        self.generator_optimizer.apply(gradients_g, self.generator.trainable_variables)
        gradients_d = self._penalized(gradients_d, images, step)
        self.discriminator_optimizer.apply(gradients_d, self.discriminator.trainable_variables)
        self._average(step)
        return [metric / len(self.devices.names) for metric in _metrics(real_logits, generated_logits)]

    def _penalized(self, gradients: list[tf.Tensor], images: tf.Tensor, step: tf.Tensor) -> list[tf.Tensor]:
        """Return the discriminator's gradients with those of its gradient penalty, which some steps have."""
        if not self.recipe.gradient_penalty:
            return gradients
        seed = self._seed(Stream.DROPOUT, step)
        factor = self.recipe.gradient_penalty * PENALTY_INTERVAL / self.recipe.batch_size

        def penalize() -> list[tf.Tensor]:
            weights = _tensors(self.discriminator)
            added = penalty_gradients(lambda x: self._discriminator_pass(x, seed), images, weights, factor)
            return [gradient + more for gradient, more in zip(gradients, added, strict=True)]

        return tf.cond(step % PENALTY_INTERVAL == 0, penalize, lambda: gradients)

    def _average(self, step: tf.Tensor) -> None:
        """Move the averaged weights toward those that this step has left."""
        if half_life := self.recipe.average_half_life_images:
            share = 1 - average_decay(step, self.recipe.batch_size, half_life)
            for average, weight in zip(self._averages, _tensors(self.generator), strict=True):
                average.assign_add(share * (weight - average))

    def _draw(self, rows: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return this device's part of the step's real images and latents."""
        size = self.recipe.batch_size // len(self.devices.names)
        seed = self._seed(Stream.LATENTS, step)
        latents = replica_part(
            lambda shape: tf.random.stateless_normal(shape, seed, alg="philox"), [size, LATENT_SIZE], batch_axis=0
        )
        return tf.gather(self._images, replica_part(lambda _: rows, [size], batch_axis=0)), latents

    def _generator_pass(self, latents: tf.Tensor) -> tf.Tensor:
        if self.convolution == "dft":
            return generator_training_pass(self.generator, latents)
        return self.generator(latents, training=True)

    def _pairs_pass(self, images: tf.Tensor, generated: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Return the logits of a real image, a generated one, and so on, float32 (2 · n, 1).

        In pairs, several devices divide the dropout masks as they do the images.
        """
        if self.convolution == "dft":
            return pairs_training_pass(self.discriminator, images, generated, seed)
        pairs = tf.reshape(tf.stack([images, generated], axis=1), [-1, *IMAGE_SHAPE])
        return self._discriminator_pass(pairs, seed)

    def _discriminator_pass(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        if self.convolution == "dft":
            return discriminator_training_pass(self.discriminator, images, seed)
        return self.discriminator([images, seed], training=True)

    def _seed(self, stream: Stream, step: tf.Tensor) -> tf.Tensor:
        return tf.random.experimental.stateless_fold_in([self.seed, int(stream)], step, alg="philox")


def _metrics(real_logits: tf.Tensor, generated_logits: tf.Tensor) -> StepMetrics:
    return StepMetrics(
        generator_loss(generated_logits),
        discriminator_loss(real_logits, generated_logits),
        tf.reduce_mean(tf.cast(real_logits > 0, tf.float32)),
        tf.reduce_mean(tf.cast(generated_logits < 0, tf.float32)),
    )


def _write(images: tf.Variable, rows: np.ndarray, new: np.ndarray) -> None:
    # in place, where to assign to a slice would first copy the whole
    images.scatter_update(tf.IndexedSlices(new, rows))


def _copies(network: keras.Model) -> list[tf.Variable]:
    return [
        tf.Variable(
            weight.value,
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        for weight in network.trainable_variables
    ]


def _tensors(network: keras.Model) -> list[tf.Variable]:
    return [variable.value for variable in network.trainable_variables]


def _variables_of(group: keras.Model | keras.optimizers.Optimizer) -> list[keras.Variable]:
    return group.weights if isinstance(group, keras.Model) else group.variables


def _within(group: keras.Model | keras.optimizers.Optimizer, variable: keras.Variable) -> str:
    return variable.path.removeprefix(f"{group.name}/")
