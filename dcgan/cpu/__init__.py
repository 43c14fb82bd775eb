"""The exact fast path for processors: the same results as the Keras layers, with less arithmetic.

`FourierPasses` is its only entry point, and `dcgan.training.device` the only module that imports it. Without this
folder and that import the project trains by the Keras layers alone.
"""

from dcgan.cpu.passes import FourierPasses

__all__ = ["FourierPasses"]
