"""The benchmark of the step: what is compared trains the same networks, and its results follow from the turns."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import keras
import numpy as np
import pytest

from benchmarks.peers import keras_port
from benchmarks.peers.keras_port import make_discriminator, make_generator
from benchmarks.step import BFLOAT16, VARIANTS, nominal_gflop, summarize
from benchmarks.worker import Worker
from dcgan.model.networks import build_discriminator, build_generator
from dcgan.recipe import CLASSIC, FAST, PENALTY_INTERVAL

RECIPE = CLASSIC.model_copy(update={"batch_size": 60})


def shapes(network: keras.Model) -> list[tuple[int, ...]]:
    return [weight.shape for weight in network.trainable_weights]


@pytest.mark.parametrize("recipe", [CLASSIC, FAST], ids=["classic", "fast"])
def test_port_has_our_networks(recipe):
    """The Keras port trains networks with the shapes of ours, weight for weight, and with our penalty."""
    assert shapes(make_generator()) == shapes(build_generator())
    ours = build_discriminator(recipe=recipe)
    port = make_discriminator(recipe.name)
    assert shapes(port) == shapes(ours)
    rates = [[layer.rate for layer in net.layers if "Dropout" in type(layer).__name__] for net in (port, ours)]
    assert rates[0] == [rate for rate in rates[1] if rate]
    assert (FAST.r1_gamma, PENALTY_INTERVAL) == (keras_port.R1_GAMMA, keras_port.PENALTY_INTERVAL)


def test_ports_have_the_same_settings():
    """PyTorch's port, which has an environment of its own, has the numbers of the Keras port."""
    text = Path(keras_port.__file__).with_name("torch_port.py").read_text()
    for name in ("DISCRIMINATOR_MAPS", "HIDDEN_UNITS", "R1_GAMMA", "PENALTY_INTERVAL"):
        assert f"\n{name} = {getattr(keras_port, name)}\n" in text


def test_nominal_arithmetic_is_that_of_the_layers():
    """A step's nominal arithmetic is that of its passes: one of the generator, several of the discriminator."""

    def multiplications(network: keras.Model) -> list[int]:
        """Return those of each layer's forward pass: kernel entries times the positions of its coarser map."""
        layers = [layer for layer in network.layers if hasattr(layer, "kernel")]
        maps = [min(np.prod(end.shape[1:-1], dtype=int) for end in (layer.input, layer.output)) for layer in layers]
        return [int(np.prod(layer.kernel.shape)) * size for layer, size in zip(layers, maps, strict=True)]

    project, *generator = multiplications(build_generator())
    for recipe in (CLASSIC, FAST):
        network = build_discriminator(recipe=recipe)
        first, *rest = multiplications(network)
        step = 2 * project + 3 * sum(generator) + 2 * (2 * first + 3 * sum(rest)) + first + sum(rest)
        step += 6 / PENALTY_INTERVAL * (first + sum(rest)) if recipe.r1_gamma else 0
        assert nominal_gflop(recipe) == pytest.approx(2 * recipe.batch_size * step / 1e9, abs=0.01)


@pytest.mark.slow
def test_workers_train_on_request():
    """This project's and the Keras port's processes answer turns, each with the seconds of a step."""
    with ExitStack() as stack:
        workers = [Worker(sys.executable, name, 2, {}, ["fast"]) for name in ("project", "keras_port")]
        for worker in workers:
            stack.enter_context(worker)
        for worker in workers:
            worker.take_turn()
            assert worker.versions["keras"] == keras.__version__
            assert [seconds > 0 for seconds in worker.turns] == [True]


def test_results_follow_from_the_turns():
    """Images per second come from the median turn, and speed-ups from turns of the same round."""
    ours = {"": [0.1, 0.1, 0.1], BFLOAT16: [0.05, 0.05, 0.05]}
    results = summarize([0.2, 0.4, 0.3], ours, RECIPE, peak_gflops=100.0)
    assert results["images_per_second"] == 200.0
    assert results["milliseconds_per_step_range"] == [200.0, 400.0]
    assert results["speedup_of_this_project"] == {"float32": 3.0, "bfloat16": 6.0}
    assert results["nominal_fraction_of_matrix_product"] == pytest.approx(nominal_gflop(RECIPE) / 0.3 / 100, abs=1e-3)


def test_both_settings_of_onednn_are_measured():
    """The Keras port runs with TensorFlow's default, and with oneDNN on and off, whatever the processor's is."""
    settings = [variant.environment.get("TF_ENABLE_ONEDNN_OPTS") for variant in VARIANTS if "Keras," in variant.name]
    settings.pop()  # in bfloat16, which oneDNN alone has
    assert settings == [None, "1", "0"]


def test_unknown_benchmark_is_refused():
    """A name that is not a benchmark's is refused in one line that says which there are."""
    command = [sys.executable, "-m", "benchmarks", "speed"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith(
        "python -m benchmarks: error: there is no benchmark speed; expected one of step"
    )
