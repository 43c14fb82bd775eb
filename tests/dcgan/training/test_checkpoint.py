"""What a checkpoint says of itself: what made it, whether resuming from it is exact, and the digest of its weights."""

import hashlib
import logging
from dataclasses import replace

import numpy as np
import pytest

from dcgan.model.ema import EmaGenerator
from dcgan.model.networks import build_discriminator
from dcgan.provenance import environment
from dcgan.recipe import SMOKE
from dcgan.training.checkpoint import load_checkpoint
from dcgan.training.step import Gan
from tests.checkpoints import ARRAYS, CONFIGURATION, checkpoint_after

RECIPE = SMOKE.model_copy(update={"ema_half_life_images": None})  # shows the generator that is trained


def test_made_by_this_code_here(saved):
    """A checkpoint says what made it, so resuming from it here promises the same bits and warns of nothing."""
    found = load_checkpoint(saved)
    assert (found.metadata.configuration, found.metadata.environment) == (CONFIGURATION, environment())
    assert found.warn_if_inexact() == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"environment": {**environment(), "keras": "2.0"}}, f"keras was 2.0, is {environment()['keras']}"),
        ({"environment": {**environment(), "processor": "Z80"}}, f"processor was Z80, is {environment()['processor']}"),
        ({"environment": {}}, f"tensorflow was None, is {environment()['tensorflow']}"),
        ({"code_digest": "0" * 64}, "the library's code has changed"),
    ],
)
def test_inexactness_is_reported(saved, log, changes, reason):
    """A checkpoint of other packages, another processor or other code is used, with a warning that says why."""
    loaded = load_checkpoint(saved)
    elsewhere = replace(loaded, metadata=loaded.metadata.model_copy(update=changes))
    reasons = elsewhere.warn_if_inexact()
    assert reasons[0] == reason
    assert [(r.levelno, r.getMessage()) for r in log.records] == [
        (logging.WARNING, f"Resuming from epoch 2 is not exact: {'; '.join(reasons)}.")
    ]


def test_every_reason_is_reported(log):
    """Several reasons stand in one warning."""
    here = checkpoint_after(1)
    changes = {"environment": {**environment(), "numpy": "1", "python": "2"}, "code_digest": "0"}
    reasons = replace(here, metadata=here.metadata.model_copy(update=changes)).warn_if_inexact()
    assert [reason.split()[0] for reason in reasons] == ["numpy", "python", "the"]
    assert all(reason in log.messages[0] for reason in reasons)


def test_weights_sha256_is_of_the_layers_weights():
    """The digest is that of the raw float32 of all weights, layer after layer, generator first, statistics included."""
    state = Gan(RECIPE, 3, np.zeros((64, 28, 28, 1), np.float32)).state()
    discriminator = build_discriminator(99, recipe=RECIPE)
    for variable in discriminator.weights:
        variable.assign(state[variable.path if variable.path in state else f"discriminator/{variable.path}"])
    layers = [*EmaGenerator(RECIPE, 3).generator(state).layers, *discriminator.layers]
    raw = [weight.astype("<f4").tobytes() for layer in layers for weight in layer.get_weights()]
    assert sum(map(len, raw)) == 4 * (2_330_944 + 855_425)
    checkpoint = replace(checkpoint_after(1), arrays=state)
    assert checkpoint.weights_sha256() == hashlib.sha256(b"".join(raw)).hexdigest()


def test_weights_sha256_is_of_the_weights_alone():
    """One other bit in a weight changes the digest; an optimizer's moments do not."""
    here = checkpoint_after(1)
    digests = {here.weights_sha256()}
    for name, array in ARRAYS.items():
        arrays = {**ARRAYS, name: array + array.dtype.type(1)}
        digests.add(replace(here, arrays=arrays).weights_sha256())
    assert len(digests) == 3
