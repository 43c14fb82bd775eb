"""MNIST's four files: their names, sizes and digests, as data/mnist/README.md has them.

Y. LeCun, C. Cortes and C. Burges, the MNIST database of handwritten digits. Other data sets in the same format
(Fashion-MNIST, KMNIST) use the same names.
"""

from typing import Literal, NamedTuple

Split = Literal["train", "test"]
CLASSES = 10


class MnistFile(NamedTuple):
    """One of the four files, decompressed."""

    name: str
    size: int  # bytes
    sha256: str


class SplitFiles(NamedTuple):
    """The two files of one split."""

    images: MnistFile
    labels: MnistFile


TRAIN = SplitFiles(
    images=MnistFile(
        "train-images-idx3-ubyte", 47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    ),
    labels=MnistFile(
        "train-labels-idx1-ubyte", 60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
    ),
)
TEST = SplitFiles(
    images=MnistFile(
        "t10k-images-idx3-ubyte", 7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    ),
    labels=MnistFile(
        "t10k-labels-idx1-ubyte", 10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
    ),
)
FILES = (*TRAIN, *TEST)
