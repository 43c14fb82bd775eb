"""Devices: what is asked for or one clear error, and two devices that train as one does."""

import inspect
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from dcgan.errors import DeviceError
from dcgan.model.replicas import all_reduce_sum, local_shard, replica_count
from dcgan.recipe import FAST, SMOKE
from dcgan.training.device import choose_devices, choose_passes, multiplies_bfloat16
from dcgan.training.step import Gan, StepMetrics

BATCH, STEPS = 8, 3


def train(batch: int, steps: int) -> dict[str, np.ndarray]:
    """Return metrics and states after one and after all steps on the processor, both convolutions, by name.

    The first batch's images are there at the beginning, and one more; the others' replace them.
    """
    images = np.random.default_rng(0).uniform(-1, 1, (batch * steps, 28, 28, 1)).astype(np.float32)
    order = np.arange(batch * steps, dtype=np.int32).reshape(steps, batch)
    arrays = {}
    for convolution in ("direct", "dft"):
        rates = {"generator_learning_rate": 2e-4, "discriminator_learning_rate": 2e-4}
        recipe = SMOKE.model_copy(update={"convolution": convolution, "batch_size": batch, **rates})
        first = np.concatenate([images[: batch + 1], np.zeros_like(images[batch + 1 :])])
        gan = Gan(recipe, 1, first, device="cpu", rows=len(images))
        for part, first_step in ((order[:1], 0), (order[1:] - batch, 1)):
            values = gan.run(part, first_step)._asdict() | gan.state()
            if first_step == 0:
                gan.replace_images(np.array([batch]), [images[batch + 1 :]])
            arrays |= {f"{convolution}/{first_step}/{name}": value for name, value in values.items()}
    return arrays


PROGRAM = f"""
import sys
import numpy as np
import tensorflow as tf
processor = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
from dcgan.training.device import choose_devices
from dcgan.training.step import Gan
from dcgan.recipe import SMOKE
{inspect.getsource(train)}
devices = choose_devices("cpu")
try:
    devices.require_divisible(3)
except Exception as error:
    print(error)
np.savez(sys.argv[1], devices=devices.names, **train({BATCH}, {STEPS}))
"""


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], str]:
    """Return what training gives on one device, on two, and what the process with two printed."""
    path = tmp_path_factory.mktemp("devices") / "two.npz"
    command = [sys.executable, "-c", PROGRAM, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        one = train(BATCH, STEPS)
        printed, complaint = process.communicate(timeout=200)
    assert process.returncode == 0, complaint[-2000:]
    with np.load(path) as two:
        return one, dict(two), printed


@pytest.mark.slow
def test_two_devices_take_the_step_of_one(one_and_two):
    """Two devices' first gradients are one device's for the same batch: Adam's first momenta are half of them."""
    one, two, _ = one_and_two
    names = [name for name in one if name.split("/")[1] == "0" and ("momentum" in name or "moving" in name)]
    assert len(names) == 2 * (18 + 6)
    for name in names:
        assert np.abs(one[name]).max() > 0, name
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-4 * np.abs(one[name]).max(), err_msg=name)


@pytest.mark.slow
def test_two_devices_train_as_one(one_and_two):
    """After three steps the losses and weights of two devices are those of one, up to rounding."""
    one, two, _ = one_and_two
    assert list(two.pop("devices")) == ["/device:CPU:0", "/device:CPU:1"]
    assert two.keys() == one.keys()
    for name in one:
        scale = np.abs(one[name]).max()
        # a weight whose gradient is rounding error moves by up to the learning rate, 2e-4, in each step
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-3 * scale + 6e-4, err_msg=name)


@pytest.mark.slow
def test_metrics_are_not_counted_twice(one_and_two):
    """Each metric of two devices is that of the whole batch."""
    one, two, _ = one_and_two
    for convolution in ("direct", "dft"):
        for name in StepMetrics._fields:
            found = np.concatenate([two[f"{convolution}/{first}/{name}"] for first in (0, 1)])
            expected = np.concatenate([one[f"{convolution}/{first}/{name}"] for first in (0, 1)])
            np.testing.assert_allclose(found, expected, rtol=1e-4, err_msg=name)


@pytest.mark.slow
def test_a_batch_that_two_devices_cannot_share_is_refused(one_and_two):
    """A batch is refused in one sentence where the number of devices does not divide it."""
    assert one_and_two[2].strip() == (
        "A batch of 3 images cannot be divided among 2 devices; expected a multiple of their number as batch_size."
    )


def test_no_gpu_is_one_sentence_at_once():
    """Asking for a GPU where TensorFlow sees none fails before anything is built."""
    if tf.config.list_logical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError, match=r"^TensorFlow sees no GPU on this machine; expected .*\.$"):
        Gan(SMOKE, 0, np.zeros((1, 28, 28, 1), np.float32), device="gpu")


def test_processor_is_one_device():
    """The processor is one device, however many cores it has, and `auto` falls back on it."""
    devices = choose_devices("cpu")
    assert (devices.kind, devices.names) == ("cpu", ("/device:CPU:0",))
    if not tf.config.list_logical_devices("GPU"):
        assert choose_devices("auto") == devices


@pytest.mark.parametrize(
    ("choice", "precision", "kind", "expected"),
    [
        ("auto", "float32", "cpu", "dft"),
        ("auto", "float32", "gpu", "direct"),
        ("auto", "mixed_bfloat16", "cpu", "dft"),
        ("auto", "mixed_bfloat16", "gpu", "direct"),
        ("direct", "float32", "cpu", "direct"),
        ("dft", "float32", "gpu", "dft"),
    ],
)
def test_convolution_is_resolved(choice, precision, kind, expected):
    """`auto` is dft on a processor and direct otherwise; a choice is kept."""
    assert choose_passes(choice, precision, kind).name == expected


@pytest.mark.parametrize(
    ("flags", "kind", "expected"),
    [
        ("fpu avx512f avx512_bf16", "cpu", ["mixed_bfloat16", "float32"]),
        ("fpu amx_bf16", "cpu", ["mixed_bfloat16", "float32"]),
        ("fpu avx2 avx512f", "cpu", ["float32", "mixed_bfloat16"]),
        ("fpu avx512f avx512_bf16", "gpu", ["float32", "mixed_bfloat16"]),
    ],
)
def test_precision_is_resolved(flags, kind, expected, monkeypatch, tmp_path):
    """`auto` is bfloat16 on a processor whose flags have it, and float32 elsewhere; then what it is on others."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nmodel name\t: avx512_bf16\nflags\t\t: {flags}\n")
    monkeypatch.setattr("dcgan.training.device.CPUINFO", cpuinfo)
    multiplies_bfloat16.cache_clear()
    devices = replace(choose_devices("cpu"), kind=kind)
    assert [recipe.precision for recipe in devices.resolve(FAST)] == expected
    multiplies_bfloat16.cache_clear()


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_chosen_precision_is_kept(precision):
    """A recipe that says its precision trains in that alone."""
    recipe = FAST.model_copy(update={"precision": precision})
    assert choose_devices("cpu").resolve(recipe) == [recipe]


def test_one_device_is_the_whole():
    """Outside several devices a part is the whole and a sum is what it sums."""
    x = tf.range(4)
    assert replica_count() == 1
    assert all_reduce_sum(x) is x
    assert local_shard(tf.zeros, [2, 3], batch_axis=0).shape == (2, 3)
