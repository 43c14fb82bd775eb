"""The step's benchmark: what is compared is the same training, and its figures follow from the turns."""

import subprocess
import sys
from contextlib import ExitStack
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from benchmarks.peers.keras_port import make_discriminator, make_generator
from benchmarks.step import VARIANTS, _figures, nominal_gflop, table
from benchmarks.worker import Worker
from dcgan.networks import build_discriminator, build_generator


@pytest.mark.parametrize(
    ("port", "ours"),
    [(make_generator, build_generator), (make_discriminator, build_discriminator)],
    ids=["generator", "discriminator"],
)
def test_port_has_our_networks(port, ours):
    """The plain port trains networks with the shapes of ours, weight for weight."""
    port, ours = port(), ours()
    assert [weight.shape for weight in port.trainable_weights] == [weight.shape for weight in ours.trainable_weights]


def test_nominal_arithmetic_is_that_of_the_layers():
    """A step's nominal arithmetic is that of its passes: one of the generator, several of the discriminator."""

    def multiplications(network: keras.Model) -> list[int]:
        """Return those of each layer's forward pass: kernel entries times the positions of its coarser map."""
        layers = [layer for layer in network.layers if hasattr(layer, "kernel")]
        maps = [min(np.prod(end.shape[1:-1], dtype=int) for end in (layer.input, layer.output)) for layer in layers]
        return [int(np.prod(layer.kernel.shape)) * size for layer, size in zip(layers, maps, strict=True)]

    project, *generator = multiplications(build_generator())
    first, *discriminator = multiplications(build_discriminator())
    step = 2 * project + 3 * sum(generator) + 2 * (2 * first + 3 * sum(discriminator)) + first + sum(discriminator)
    assert nominal_gflop(1000) == pytest.approx(2 * 1000 * step / 1e9, abs=0.01)


@pytest.mark.slow
def test_workers_train_when_they_are_told():
    """This project's and the plain port's processes answer turns, each with the seconds of a step."""
    with ExitStack() as stack:
        workers = [Worker(sys.executable, name, 2, {}) for name in ("project", "keras_port")]
        for worker in workers:
            stack.enter_context(worker)
        for worker in workers:
            worker.take_turn()
            assert worker.versions["keras"] == keras.__version__
            assert [seconds > 0 for seconds in worker.turns] == [True]


def test_figures_follow_from_the_turns():
    """Images per second come from the median turn, and speed-ups from turns of the same round."""
    worker = SimpleNamespace(turns=[0.2, 0.4, 0.3], versions={})
    figures = _figures(worker, 60, peak=100.0, ours=[0.1, 0.1, 0.1])
    assert figures["images_per_second"] == 200.0
    assert figures["milliseconds_per_step_range"] == [200.0, 400.0]
    assert figures["speedup_of_this_project"] == 3.0
    assert figures["nominal_share_of_matrix_product"] == pytest.approx(nominal_gflop(60) / 0.3 / 100, abs=1e-3)
    rows = table("title", {"matrix_product_gflops": 100.0, "variants": {"one": figures, "two": figures}}).row_count
    assert rows == 2


def test_both_settings_of_onednn_are_measured():
    """The plain port runs as TensorFlow's default is, and with oneDNN on and off, whatever the processor's default."""
    settings = [variant.environment.get("TF_ENABLE_ONEDNN_OPTS") for variant in VARIANTS if "Keras" in variant.name]
    assert settings == [None, "1", "0"]


def test_unknown_benchmark_is_refused():
    """A name that is no benchmark's is refused in one line that says which there are."""
    command = [sys.executable, "-m", "benchmarks", "speed"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith(
        "python -m benchmarks: error: there is no benchmark speed; expected one of step"
    )
