"""The machine's own speed: a product of two matrices, 4096 x 4096, as one step."""

from collections.abc import Callable

import tensorflow as tf

from benchmarks.worker import serve

SIZE = 4096


def make(_batch_size: int, _recipe: str, dtype: str = "float32") -> Callable[[int], None]:
    """Return a function that multiplies `steps` times; the batch size and the recipe do not matter."""
    left, right = (tf.cast(tf.random.stateless_normal([SIZE, SIZE], [0, seed]), dtype) for seed in (0, 1))
    multiply = tf.function(tf.matmul)  # oneDNN takes part in compiled functions only

    def run(steps: int) -> None:
        for _ in range(steps):
            product = multiply(left, right)
        product[0, 0].numpy()  # waits for the last one

    return run


if __name__ == "__main__":
    serve(make, {"tensorflow": tf.__version__})
