"""Where a training run computes: on one processor, one GPU, or all GPUs of the machine, which divide the batch.

Several devices compute exactly what one would: random numbers are drawn for the global batch and each device takes its
shard, batch statistics are sums over all devices, and each device's losses are its share of the global batch's mean. A
single GPU is the exception: XLA compiles its step, and XLA makes other numbers of a seed than TensorFlow does.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import tensorflow as tf

from dcgan.cpu import FourierPasses
from dcgan.errors import ConfigurationError, DeviceError
from dcgan.model.networks import KERAS_PASSES, KerasPasses
from dcgan.recipe import Convolution, DeviceChoice, Precision

DeviceKind = Literal["cpu", "gpu"]


@dataclass(frozen=True)
class Devices:
    """The devices of a training run.

    Attributes:
        kind: Kind of the devices.
        names: TensorFlow's names of the devices.
        strategy: Places the variables, and runs the step on each device.
        xla: Whether XLA compiles the step. On a GPU a step is hundreds of small kernels, which it fuses; on a processor
            it is no faster, and it cannot compile the sums over several devices.
    """

    kind: DeviceKind
    names: tuple[str, ...]
    strategy: tf.distribute.Strategy
    xla: bool = False

    def require_divisible(self, batch_size: int) -> None:
        """Raise DeviceError unless the devices can divide a batch evenly."""
        if batch_size % len(self.names):
            raise DeviceError(
                f"A batch of {batch_size} images cannot be divided among {len(self.names)} devices; "
                "expected a multiple of their number as batch_size."
            )


def choose_devices(choice: DeviceChoice) -> Devices:
    """Return the devices to train on.

    Args:
        choice: `gpu` for all visible GPUs, `cpu` for the processor, `auto` for GPUs where there are any.

    Raises:
        DeviceError: `gpu` where TensorFlow sees none.
    """
    gpus = tf.config.list_logical_devices("GPU")
    if choice == "gpu" and not gpus:
        raise DeviceError(
            "TensorFlow sees no GPU on this machine; expected at least one for the device gpu: "
            "check the driver and CUDA_VISIBLE_DEVICES, or choose the device auto or cpu."
        )
    kind: DeviceKind = "gpu" if gpus and choice != "cpu" else "cpu"
    names = tuple(device.name for device in (gpus if kind == "gpu" else tf.config.list_logical_devices("CPU")))
    return Devices(kind, names, _strategy(names), xla=kind == "gpu" and len(names) == 1)


@cache
def _strategy(names: tuple[str, ...]) -> tf.distribute.Strategy:
    # once per process: a second strategy would number its collective operations from the start again, and TensorFlow
    # would take them for the first one's
    one, *others = names
    return tf.distribute.MirroredStrategy(names) if others else tf.distribute.OneDeviceStrategy(one)


def choose_passes(choice: Convolution, precision: Precision, kind: DeviceKind) -> KerasPasses:
    """Return how the networks are computed: `auto` is dft in float32 on a processor, else direct.

    Raises:
        ConfigurationError: dft in mixed precision.
    """
    if choice == "dft" and precision != "float32":
        raise ConfigurationError(
            f"The convolution dft computes in float32, not in {precision}; "
            "expected the precision float32 or the convolution direct."
        )
    fast = choice == "dft" or (choice, kind, precision) == ("auto", "cpu", "float32")
    return FourierPasses() if fast else KERAS_PASSES
