"""What the layers need to know about several devices: how many run the step, sums over all, and a device's shard.

Outside of a distributed step there is one replica, and all of these do nothing.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def replica_count() -> int:
    """Return how many devices run the step that this is called from."""
    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context else 1


def all_reduce_sum(x: tf.Tensor) -> tf.Tensor:
    """Return the sum of `x` over all devices."""
    if replica_count() == 1:
        return x
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, x)


def local_shard(make_global: Callable[[list[Any]], tf.Tensor], shape: list[Any], batch_axis: int) -> tf.Tensor:
    """Return this device's shard of the tensor that a single device would use.

    Args:
        make_global: Makes the tensor of the global batch, given its shape.
        shape: Shape of this device's shard.
        batch_axis: The axis that is divided among the devices.
    """
    replicas = replica_count()
    if replicas == 1:
        return make_global(shape)
    size = shape[batch_axis]
    global_shape = [*shape[:batch_axis], size * replicas, *shape[batch_axis + 1 :]]
    begin = [0] * len(shape)
    begin[batch_axis] = size * tf.distribute.get_replica_context().replica_id_in_sync_group
    return tf.slice(make_global(global_shape), begin, shape)
