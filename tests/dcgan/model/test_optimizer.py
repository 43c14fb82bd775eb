"""Adam as one operation against Keras' own Adam, and the falling learning rate."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dcgan.model.optimizer import FusedAdam, LinearDecay, adam
from dcgan.recipe import CLASSIC


def test_fused_adam_is_keras_adam():
    """Ten updates of two variables give the weights, moments and variable names of Keras' Adam."""
    made = []
    for kind in (keras.optimizers.Adam, FusedAdam):
        variables = [keras.Variable(np.linspace(-1, 1, 6).reshape(shape), name="w") for shape in ((6,), (2, 3))]
        optimizer = kind(1e-2, beta_1=0.5, beta_2=0.9, name="adam")
        optimizer.build(variables)
        for step in range(10):
            gradients = [tf.random.stateless_normal(v.shape, [step, i]) for i, v in enumerate(variables)]
            optimizer.apply(gradients, variables)
        made.append([*variables, *optimizer.variables])
    for stock, fused in zip(*made, strict=True):
        assert stock.path == fused.path
        np.testing.assert_allclose(fused.numpy(), stock.numpy(), rtol=1e-5, atol=1e-7)


def test_rate_falls_linearly():
    """The rate stays until the step where decay begins, and reaches zero at the end."""
    schedule = LinearDecay(2e-4, begin=10, end=20)
    rates = [float(schedule(tf.constant(step))) for step in (0, 10, 15, 20, 30)]
    assert rates == pytest.approx([2e-4, 2e-4, 1e-4, 0, 0])


def test_rate_is_constant_unless_the_recipe_says_so():
    """`classic` keeps its learning rate."""
    assert float(adam(1e-4, CLASSIC, 100, "adam").learning_rate) == pytest.approx(1e-4)


def test_rate_decays_from_the_recipes_fraction_on():
    """With decay from the half of ten steps on, the rate is constant for five steps and zero after the tenth."""
    optimizer = adam(1e-3, CLASSIC.changed({"decay_start": 0.5}), 10, "adam")
    rates = []
    for step in (0, 5, 7, 10):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    assert rates == pytest.approx([1e-3, 1e-3, 6e-4, 0])
