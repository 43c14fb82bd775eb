"""Where a training run computes: on one processor, one GPU, or all GPUs of the machine, which divide the batch.

Several devices compute exactly what one would: random numbers are drawn for the global batch and each device takes its
shard, batch statistics are sums over all devices, and each device's losses are its share of the global batch's mean.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import tensorflow as tf

from dcgan.cpu import FourierPasses
from dcgan.errors import DeviceError
from dcgan.model.networks import KERAS_PASSES, KerasPasses
from dcgan.recipe import Convolution, DeviceChoice, Precision, Recipe

DeviceKind = Literal["cpu", "gpu"]
CPUINFO = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}


@dataclass(frozen=True)
class Devices:
    """The devices of a training run.

    Attributes:
        kind: Kind of the devices.
        names: TensorFlow's names of the devices.
        strategy: Places the variables, and runs the step on each device.
        xla: Whether XLA compiles the steps. On a GPU a step is hundreds of small kernels, which it fuses and starts
            without TensorFlow; on a processor it is no faster, and it cannot compile the sums over several devices.
    """

    kind: DeviceKind
    names: tuple[str, ...]
    strategy: tf.distribute.Strategy
    xla: bool = False

    def resolve(self, recipe: Recipe) -> list[Recipe]:
        """Return the recipe with a precision in place of `auto`: first what it is here, then what it is elsewhere.

        It is bfloat16 where a processor multiplies that, else float32. This depends on what a processor can do, never
        on how fast it is, so that all runs on it are the same. On a GPU networks as small as these hardly gain.
        """
        if recipe.precision != "auto":
            return [recipe]
        precisions: list[Precision] = ["float32", "mixed_bfloat16"]
        if self.kind == "cpu" and multiplies_bfloat16():
            precisions.reverse()
        return [recipe.model_copy(update={"precision": precision}) for precision in precisions]

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
def multiplies_bfloat16() -> bool:
    """Return whether this processor has instructions for products of bfloat16, of which only Linux tells."""
    if not CPUINFO.exists():
        return False
    lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    flags = {flag for line in lines if line.startswith("flags") for flag in line.split()}
    return not flags.isdisjoint(BFLOAT16_FLAGS)


@cache
def _strategy(names: tuple[str, ...]) -> tf.distribute.Strategy:
    # once per process: a second strategy would number its collective operations from the start again, and TensorFlow
    # would take them for the first one's
    one, *others = names
    return tf.distribute.MirroredStrategy(names) if others else tf.distribute.OneDeviceStrategy(one)


def choose_passes(choice: Convolution, precision: Precision, kind: DeviceKind) -> KerasPasses:
    """Return how the networks are computed: `auto` is dft on a processor, else direct."""
    if choice == "dft" or (choice, kind) == ("auto", "cpu"):
        return FourierPasses(tf.float32 if precision == "float32" else tf.bfloat16)
    return KERAS_PASSES
