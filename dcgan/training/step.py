"""The adversarial training step: both networks, both optimizers, and a compiled function that runs many steps."""

from collections.abc import Callable, Iterable
from itertools import chain
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from dcgan.errors import CheckpointError
from dcgan.model.ema import EMA, EMA_INTERVAL, ema_decay
from dcgan.model.losses import discriminator_loss, generator_loss, logit_gradients, penalty_gradients
from dcgan.model.networks import build_discriminator, build_generator
from dcgan.model.optimizer import adam
from dcgan.model.replicas import local_shard
from dcgan.recipe import LATENT_SIZE, PENALTY_INTERVAL, DeviceChoice, Precision, Recipe
from dcgan.rng import Stream
from dcgan.training.device import choose_devices, choose_passes

XLA_STEPS = 128  # of one call of the function that XLA compiles, which it does anew for every other number


class StepMetrics(NamedTuple):
    """Metrics of a sequence of steps; every field is float32 (steps,)."""

    generator_loss: np.ndarray
    discriminator_loss: np.ndarray
    real_accuracy: np.ndarray
    generated_accuracy: np.ndarray


class Gan:
    """Everything that training changes, and the step that changes it.

    Args:
        recipe: The hyperparameters; the precision `auto` is the devices'.
        seed: Seed of the initial weights, the latents and the dropout masks.
        images: Training images, float32 (n, 28, 28, 1) in [-1, 1]; they are copied to every device.
        device: `auto`, `cpu` or `gpu`.
        rows: Number of images of the whole training set, where `images` is only as large as a chunk of it.

    Attributes:
        devices: The chosen devices.
        passes: How the networks are computed.

    Raises:
        DeviceError: There is no GPU, or the batch cannot be divided among several devices.
    """

    def __init__(
        self, recipe: Recipe, seed: int, images: np.ndarray, device: DeviceChoice = "auto", rows: int | None = None
    ) -> None:
        self.devices = choose_devices(device)
        self.recipe = recipe = self.devices.resolve(recipe)[0]
        precision: Precision = "float32" if recipe.precision == "float32" else "mixed_bfloat16"
        self.seed = seed
        self.devices.require_divisible(recipe.batch_size)
        self.passes = choose_passes(recipe.convolution, precision, self.devices.kind)
        with self.devices.strategy.scope():
            self.generator = build_generator(seed, self.passes, recipe, precision)
            self.discriminator = build_discriminator(seed, self.passes, recipe, precision)
            steps = recipe.epochs * ((rows or len(images)) // recipe.batch_size)
            self.generator_optimizer = adam(recipe.generator_learning_rate, recipe, steps, "generator_adam")
            self.discriminator_optimizer = adam(recipe.discriminator_learning_rate, recipe, steps, "discriminator_adam")
            # built before the first trace: otherwise the step is traced twice, and restoring would miss the moments
            self.generator_optimizer.build(self.generator.trainable_variables)
            self.discriminator_optimizer.build(self.discriminator.trainable_variables)
            self._ema = _copies(self.generator) if recipe.ema_half_life_images else []
            self._images = tf.Variable(images, trainable=False)
        # AutoGraph is off: what it rewrites depends on the versions of Python and of the packages it parses with
        scalar, batch = tf.TensorSpec([], tf.int32), [recipe.batch_size]
        order, padded = (tf.TensorSpec([steps, *batch], tf.int32) for steps in (None, XLA_STEPS))
        latents = tf.TensorSpec([XLA_STEPS, *batch, LATENT_SIZE], tf.float32)
        self._run = tf.function(self._run_steps, input_signature=[order, scalar], autograph=False)
        self._draw_latents = tf.function(self._latents_of_steps, input_signature=[scalar, scalar], autograph=False)
        self._run_compiled = tf.function(
            self._run_padded, input_signature=[padded, latents, scalar, scalar], autograph=False, jit_compile=True
        )
        self._generate = tf.function(
            self._inference, input_signature=[tf.TensorSpec([None, LATENT_SIZE], tf.float32)], autograph=False
        )

    def replace_images(self, retained: np.ndarray, blocks: Iterable[np.ndarray]) -> None:
        """Replace the images on every device by others; no more than one block is in memory besides.

        Args:
            retained: Rows of the images that stay; they become the first ones.
            blocks: The other images, float32 (n, 28, 28, 1) in [-1, 1]; together with the retained ones no more than
                the device held at the beginning.
        """
        filled = 0
        for images in chain([tf.gather(self._images, retained).numpy()], blocks):
            rows = np.arange(filled, filled + len(images))
            self.devices.strategy.extended.update(self._images, _write, args=(rows, images))
            filled += len(images)

    def run(self, order: np.ndarray, first_step: int) -> StepMetrics:
        """Train on batches in one compiled call, or in several of XLA_STEPS.

        Args:
            order: Rows of the images of each batch, int32 (steps, batch_size).
            first_step: Number of the first step since the training run began, from 0; all randomness derives from it.
        """
        if not self.devices.xla:
            return StepMetrics(*(metric.numpy() for metric in self._run(order, first_step)))
        parts = []
        for done in range(0, len(order), XLA_STEPS):
            rows = order[done : done + XLA_STEPS]
            padded = np.pad(rows, [(0, XLA_STEPS - len(rows)), (0, 0)])
            first = first_step + done
            metrics = self._run_compiled(padded, self._draw_latents(first, len(rows)), first, len(rows))
            parts.append([metric.numpy()[: len(rows)] for metric in metrics])
        return StepMetrics(*(np.concatenate(metric) for metric in zip(*parts, strict=True)))

    def generate(self, latents: np.ndarray) -> np.ndarray:
        """Return images float32 (n, 28, 28, 1) for latents float32 (n, 100); batch statistics stay unchanged."""
        return self._generate(latents).numpy()

    def state(self) -> dict[str, np.ndarray]:
        """Return a copy of every array that training changes, by name, generator first, each network in layer order."""
        return {name: variable.numpy() for name, variable in self._variables().items()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Set every variable from `state`.

        Raises:
            CheckpointError: A name is missing or unknown, or a shape or dtype differs; nothing is changed then.
        """
        variables = self._variables()
        if differing := sorted(variables.keys() ^ state.keys()):
            raise CheckpointError(
                f"The checkpoint's arrays are not this model's: {', '.join(differing[:3])} (of {len(differing)})."
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
        named = {f"{group.name}/{_relative_path(group, v)}": v for group in groups for v in _variables_of(group)}
        weights = self.generator.trainable_variables if self._ema else []
        averages = zip(weights, self._ema, strict=True)
        return named | {f"{EMA}/{_relative_path(self.generator, weight)}": average for weight, average in averages}

    def _inference(self, latents: tf.Tensor) -> tf.Tensor:
        return self.generator(latents, training=False)

    def _run_steps(self, order: tf.Tensor, first_step: tf.Tensor) -> list[tf.Tensor]:
        steps = tf.shape(order)[0]
        return self._repeat(lambda index: (order[index], first_step + index), self._draw_and_step, steps, steps)

    def _run_padded(
        self, order: tf.Tensor, latents: tf.Tensor, first_step: tf.Tensor, steps: tf.Tensor
    ) -> list[tf.Tensor]:
        """Take the first `steps` of XLA_STEPS steps; the metrics of the others are zeros."""

        def arguments(index: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return tf.gather(self._images, order[index]), latents[index], first_step + index

        return self._repeat(arguments, self._step, steps, XLA_STEPS)

    def _repeat(
        self,
        arguments: Callable[[tf.Tensor], tuple[tf.Tensor, ...]],
        step: Callable[..., list[tf.Tensor]],
        steps: tf.Tensor,
        size: tf.Tensor | int,
    ) -> list[tf.Tensor]:
        """Take steps on every device, and return each metric of all of them, float32 (size,).

        Args:
            arguments: Returns the arguments of a step, given its index from 0.
            step: Takes a step on one device, and returns its share of each metric.
            steps: Number of steps.
            size: Length of the metrics, no less than the number of steps.
        """
        strategy = self.devices.strategy

        def run_step(index: tf.Tensor, histories: list[tf.TensorArray]) -> tuple[tf.Tensor, list[tf.TensorArray]]:
            shares = strategy.run(step, args=arguments(index))
            metrics = [strategy.reduce(tf.distribute.ReduceOp.SUM, share, axis=None) for share in shares]
            return index + 1, [history.write(index, m) for history, m in zip(histories, metrics, strict=True)]

        histories = [tf.TensorArray(tf.float32, size) for _ in StepMetrics._fields]
        # one step at a time: the steps depend on one another through the variables
        _, histories = tf.while_loop(
            lambda index, _: index < steps, run_step, [tf.constant(0), histories], parallel_iterations=1
        )
        return [history.stack() for history in histories]

    def _draw_and_step(self, rows: tf.Tensor, step: tf.Tensor) -> list[tf.Tensor]:
        """Take a step on this device's shard of the step's real images and latents."""
        size = self.recipe.batch_size // len(self.devices.names)
        latents = local_shard(lambda shape: self._latents(shape, step), [size, LATENT_SIZE], batch_axis=0)
        images = tf.gather(self._images, local_shard(lambda _: rows, [size], batch_axis=0))
        return self._step(images, latents, step)

    def _latents_of_steps(self, first_step: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
        """Return the latents of `steps` steps, and zeros for the rest of XLA_STEPS.

        They are drawn on the processor: XLA would draw other values from the same seed.
        """
        shape = [self.recipe.batch_size, LATENT_SIZE]
        with tf.device("cpu"):
            drawn = tf.map_fn(
                lambda step: self._latents(shape, step), first_step + tf.range(steps), fn_output_signature=tf.float32
            )
            return tf.pad(drawn, [[0, XLA_STEPS - steps], [0, 0], [0, 0]])

    def _latents(self, shape: list[int], step: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_normal(shape, self._seed(Stream.LATENTS, step), alg="philox")

    def _step(self, images: tf.Tensor, latents: tf.Tensor, step: tf.Tensor) -> list[tf.Tensor]:
        """Update both networks on one device, from gradients that are both taken before either update.

        Returns:
            This device's share of each metric; the metric is the sum over all devices.
        """
        with tf.GradientTape() as generator_tape:
            generated = self.passes.generate(self.generator, latents)
        with tf.GradientTape() as discriminator_tape:
            discriminator_tape.watch(generated)
            seed = self._seed(Stream.DROPOUT, step)
            logits = self.passes.discriminate_pairs(self.discriminator, images, generated, seed)
        real_logits, generated_logits = tf.unstack(tf.reshape(logits, [-1, 2]), axis=1)

        by_logits = logit_gradients(real_logits, generated_logits)
        output_gradients = tf.reshape(tf.stack([by_logits.real, by_logits.generated], axis=1), [-1, 1])
        *gradients_d, by_generated = discriminator_tape.gradient(
            logits,
            [*_tensors(self.discriminator), generated],
            output_gradients=output_gradients / self.recipe.batch_size,
        )
        by_generated *= tf.reshape(by_logits.ratio, [-1, 1, 1, 1])
        gradients_g = generator_tape.gradient(generated, _tensors(self.generator), output_gradients=by_generated)
        self.generator_optimizer.apply(gradients_g, self.generator.trainable_variables)
        gradients_d = self._penalized(gradients_d, images, step)
        self.discriminator_optimizer.apply(gradients_d, self.discriminator.trainable_variables)
        self._update_ema(step)
        return [metric / len(self.devices.names) for metric in _metrics(real_logits, generated_logits)]

    def _penalized(self, gradients: list[tf.Tensor], images: tf.Tensor, step: tf.Tensor) -> list[tf.Tensor]:
        """Return the discriminator's gradients plus those of its gradient penalty, which only some steps have."""
        if not self.recipe.r1_gamma:
            return gradients
        seed = self._seed(Stream.DROPOUT, step)
        factor = self.recipe.r1_gamma * PENALTY_INTERVAL / self.recipe.batch_size

        def penalize() -> list[tf.Tensor]:
            weights = _tensors(self.discriminator)
            added = penalty_gradients(
                lambda x: self.passes.discriminate(self.discriminator, x, seed), images, weights, factor
            )
            return [gradient + more for gradient, more in zip(gradients, added, strict=True)]

        return tf.cond(step % PENALTY_INTERVAL == 0, penalize, lambda: gradients)

    def _update_ema(self, step: tf.Tensor) -> None:
        """Move the averaged weights toward those after this step, which only some steps do."""
        half_life = self.recipe.ema_half_life_images
        if half_life is None:
            return

        def move() -> None:
            kept = ema_decay(step, self.recipe.batch_size, half_life, self.recipe.ema_ramp_up) ** EMA_INTERVAL
            for average, weight in zip(self._ema, _tensors(self.generator), strict=True):
                average.assign_add((1 - kept) * (weight - average))

        tf.cond((step + 1) % EMA_INTERVAL == 0, move, lambda: None)

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
    # in place, where assigning to a slice would first copy everything
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


def _relative_path(group: keras.Model | keras.optimizers.Optimizer, variable: keras.Variable) -> str:
    return variable.path.removeprefix(f"{group.name}/")
