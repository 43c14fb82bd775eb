"""Adam as one TensorFlow operation per variable, with the learning rate schedule that the recipe asks for."""

import keras
import tensorflow as tf

from dcgan.recipe import Recipe


def adam(learning_rate: float, recipe: Recipe, steps: int, name: str) -> keras.optimizers.Adam:
    """Return the optimizer of one network.

    Args:
        learning_rate: Initial learning rate.
        recipe: Gives both betas, and the fraction of the training run after which the learning rate decays.
        steps: Number of steps of the whole training run.
        name: Name of the optimizer.
    """
    begin = round(recipe.decay_start * steps)
    schedule = LinearDecay(learning_rate, begin, steps) if begin < steps else learning_rate
    return FusedAdam(schedule, beta_1=recipe.beta_1, beta_2=recipe.beta_2, name=name)


class LinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that is constant until the step `begin` and then decays linearly to zero at the step `end`."""

    def __init__(self, initial: float, begin: int, end: int) -> None:
        super().__init__()
        self.initial, self.begin, self.end = initial, begin, end

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Return the learning rate of a step, a float32 scalar."""
        remaining = (self.end - tf.cast(step, tf.float32)) / (self.end - self.begin)
        return self.initial * tf.clip_by_value(remaining, 0.0, 1.0)

    def get_config(self) -> dict[str, float]:
        """Return the arguments that recreate this schedule."""
        return {"initial": self.initial, "begin": self.begin, "end": self.end}


class FusedAdam(keras.optimizers.Adam):
    """Keras' Adam without `amsgrad`: the same variables and formula, in one pass over each variable instead of ten.

    (Kingma and Ba, https://arxiv.org/abs/1412.6980, section 2, the order of computation given before algorithm 1.)
    """

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Update a variable and its two moments."""
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, variable.dtype),
        )
