"""The adversarial training step: both networks, both optimizers, and a function that runs many steps in one call."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from dcgan.errors import CheckpointError
from dcgan.losses import discriminator_loss, generator_loss
from dcgan.networks import build_discriminator, build_generator
from dcgan.randomness import Stream
from dcgan.recipe import LATENT_SIZE, Recipe


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
        images: float32 (n, 28, 28, 1) in [-1, 1], the training images; they are put on the device once.
    """

    def __init__(self, recipe: Recipe, seed: int, images: np.ndarray) -> None:
        self.recipe = recipe
        self.seed = seed
        self.generator = build_generator(seed)
        self.discriminator = build_discriminator(seed)
        self._generator_optimizer = _adam(recipe.generator_learning_rate, recipe, "generator_adam")
        self._discriminator_optimizer = _adam(recipe.discriminator_learning_rate, recipe, "discriminator_adam")
        # built before the first trace: otherwise the step is traced twice, and restoring would miss the moments
        self._generator_optimizer.build(self.generator.trainable_variables)
        self._discriminator_optimizer.build(self.discriminator.trainable_variables)
        self._images = tf.constant(images)
        self._run = tf.function(self._run_steps, reduce_retracing=False)

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
        return np.asarray(self.generator(latents, training=False))

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
        groups = (self.generator, self.discriminator, self._generator_optimizer, self._discriminator_optimizer)
        return {f"{group.name}/{_within(group, v)}": v for group in groups for v in _variables_of(group)}

    def _run_steps(self, order: tf.Tensor, first_step: tf.Tensor) -> list[tf.Tensor]:
        steps = tf.shape(order)[0]
        histories = [tf.TensorArray(tf.float32, steps) for _ in StepMetrics._fields]
        for index in tf.range(steps):
            images = tf.gather(self._images, order[index])
            metrics = self._step(images, first_step + index)
            histories = [history.write(index, metric) for history, metric in zip(histories, metrics, strict=True)]
        return [history.stack() for history in histories]

    def _step(self, images: tf.Tensor, step: tf.Tensor) -> list[tf.Tensor]:
        """Update both networks from gradients that are both taken before either update."""
        latents = tf.random.stateless_normal(
            [self.recipe.batch_size, LATENT_SIZE], self._seed(Stream.LATENTS, step), alg="philox"
        )
        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            generated = self.generator(latents, training=True)
            real_logits = self.discriminator([images, self._seed(Stream.DROPOUT_REAL, step)], training=True)
            generated_logits = self.discriminator(
                [generated, self._seed(Stream.DROPOUT_GENERATED, step)], training=True
            )
            loss_g = generator_loss(generated_logits)
            loss_d = discriminator_loss(real_logits, generated_logits)
        gradients_g = generator_tape.gradient(loss_g, self.generator.trainable_variables)
        gradients_d = discriminator_tape.gradient(loss_d, self.discriminator.trainable_variables)
        self._generator_optimizer.apply(gradients_g, self.generator.trainable_variables)
        self._discriminator_optimizer.apply(gradients_d, self.discriminator.trainable_variables)
        real_accuracy = tf.reduce_mean(tf.cast(real_logits > 0, tf.float32))
        generated_accuracy = tf.reduce_mean(tf.cast(generated_logits < 0, tf.float32))
        return [loss_g, loss_d, real_accuracy, generated_accuracy]

    def _seed(self, stream: Stream, step: tf.Tensor) -> tf.Tensor:
        return tf.random.experimental.stateless_fold_in([self.seed, int(stream)], step, alg="philox")


def _adam(learning_rate: float, recipe: Recipe, name: str) -> keras.optimizers.Adam:
    return keras.optimizers.Adam(learning_rate, beta_1=recipe.beta_1, beta_2=recipe.beta_2, name=name)


def _variables_of(group: keras.Model | keras.optimizers.Optimizer) -> list[keras.Variable]:
    return group.weights if isinstance(group, keras.Model) else group.variables


def _within(group: keras.Model | keras.optimizers.Optimizer, variable: keras.Variable) -> str:
    return variable.path.removeprefix(f"{group.name}/")
