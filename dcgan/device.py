"""Where a training computes: one processor, one GPU, or all GPUs of the machine with the batch divided among them.

Several devices compute exactly what one would: random numbers are drawn for the whole batch and each device takes its
part, batch statistics are sums over all devices, and each device's losses are its share of the whole batch's mean.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import tensorflow as tf

from dcgan.errors import ConfigurationError, DeviceError
from dcgan.recipe import Convolution, Precision

DeviceChoice = Literal["auto", "cpu", "gpu"]
DeviceKind = Literal["cpu", "gpu"]


@dataclass(frozen=True)
class Devices:
    """The devices of a training.

    Attributes:
        kind: what they are.
        names: TensorFlow's names of them.
        strategy: places the variables, and runs the step on each device.
    """

    kind: DeviceKind
    names: tuple[str, ...]
    strategy: tf.distribute.Strategy

    def require_divisible(self, batch_size: int) -> None:
        """Raise DeviceError unless the devices can share a batch evenly."""
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
    return Devices(kind, names, _strategy(names))


@cache
def _strategy(names: tuple[str, ...]) -> tf.distribute.Strategy:
    # once in a process: a second strategy would number its collective operations from the start again, and TensorFlow
    # would take them for the first one's
    one, *others = names
    return tf.distribute.MirroredStrategy(names) if others else tf.distribute.OneDeviceStrategy(one)


def resolve_convolution(choice: Convolution, precision: Precision, kind: DeviceKind) -> Literal["direct", "dft"]:
    """Return how the large convolutions are computed: `auto` is dft in float32 on a processor, and else direct.

    Raises:
        ConfigurationError: dft in mixed precision.
    """
    if choice == "auto":
        return "dft" if (kind, precision) == ("cpu", "float32") else "direct"
    if choice == "dft" and precision != "float32":
        raise ConfigurationError(
            f"The convolution dft computes in float32, not in {precision}; "
            "expected the precision float32 or the convolution direct."
        )
    return choice


def replica_count() -> int:
    """Return how many devices run the step that this is called from."""
    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context else 1


def replica_sum(x: tf.Tensor) -> tf.Tensor:
    """Return the sum over all devices of each one's `x`."""
    if replica_count() == 1:
        return x
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, x)


def replica_part(whole: Callable[[list[Any]], tf.Tensor], shape: list[Any], batch_axis: int) -> tf.Tensor:
    """Return this device's part of what one device would have.

    Args:
        whole: makes the tensor of a shape, of the whole batch.
        shape: of this device's part.
        batch_axis: the axis that the devices divide.
    """
    replicas = replica_count()
    if replicas == 1:
        return whole(shape)
    size = shape[batch_axis]
    global_shape = [*shape[:batch_axis], size * replicas, *shape[batch_axis + 1 :]]
    begin = [0] * len(shape)
    begin[batch_axis] = size * tf.distribute.get_replica_context().replica_id_in_sync_group
    return tf.slice(whole(global_shape), begin, shape)
