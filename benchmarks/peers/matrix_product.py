"""The machine's own speed: a product of two float32 matrices, 4096 x 4096, as one step."""

from collections.abc import Callable

import tensorflow as tf

from benchmarks.worker import serve

SIZE = 4096


def make(*_: object) -> Callable[[int], None]:
    """Return a function that multiplies `steps` times; the arguments do not matter."""
    left, right = (tf.random.stateless_normal([SIZE, SIZE], [0, seed]) for seed in (0, 1))

    def run(steps: int) -> None:
        for _ in range(steps):
            product = tf.matmul(left, right)
        product[0, 0].numpy()  # waits for the last one

    return run


if __name__ == "__main__":
    serve(make, {"tensorflow": tf.__version__})
