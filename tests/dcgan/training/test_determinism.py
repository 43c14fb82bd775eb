"""The same seed gives the same weights, bit for bit: twice in a process and in two, for each recipe and convolution."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import dcgan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ENVIRONMENT = dict(os.environ)  # as TensorFlow has just read it: oneDNN's switch changes bits
CHECKOUT = Path(dcgan.__file__).parent.parent
CASES = [f"{recipe} {convolution}" for recipe in ("fast", "classic") for convolution in ("direct", "dft")]

# trains each case on a few whole batches, as often as asked; prints the digests of the weights of each
TRAIN = """
import json, pathlib, sys
from dcgan.data.idx import read_images
from dcgan.data.parquet import normalise
from dcgan.provenance import Configuration
from dcgan.recipe import RECIPES
from dcgan.training.loop import train

images = normalise(read_images(pathlib.Path(sys.argv[1])))
shortened = {"epochs": 1, "evaluate_every": None, "checkpoint_selection": "last", "precision": "float32"}
few = {"fast": 160, "classic": 512}
digests = {}
for case in json.loads(sys.argv[2]):
    recipe, convolution = case.split()
    recipe = RECIPES[recipe].model_copy(update={**shortened, "max_images": few[recipe], "convolution": convolution})
    configuration = Configuration(recipe=recipe, seed=3, dataset_digest="d" * 64)
    runs = [list(train(configuration, images)) for _ in range(int(sys.argv[3]))]
    digests[case] = [reports[-1].checkpoint.weights_sha256() for reports in runs]
print(json.dumps(digests))
"""


def trained(images: Path, cases: list[str], times: int, **variables: str) -> dict[str, list[str]]:
    """Return the digests of the weights that each case ends with in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(images), json.dumps(cases), str(times)],
        cwd=CHECKOUT,
        env={**ENVIRONMENT, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def images(mnist_folder: Path) -> Path:
    """Return the file of MNIST's training images."""
    return mnist_folder / "train-images-idx3-ubyte.gz"


@pytest.fixture(scope="module")
def here(images: Path) -> dict[str, list[str]]:
    """Return the digests of a process that trains each case twice."""
    return trained(images, CASES, 2)


@pytest.fixture(scope="module")
def there(images: Path) -> dict[str, list[str]]:
    """Return the digests of another process, which trains the cases the other way round."""
    return trained(images, CASES[::-1], 1)


@pytest.mark.parametrize("case", CASES)
def test_same_seed_same_weights(case: str, here: dict[str, list[str]], there: dict[str, list[str]]) -> None:
    """A case ends in the same weights each time, wherever and after whatever it is trained."""
    assert here[case] + there[case] == here[case][:1] * 3


def test_cases_differ(here: dict[str, list[str]]) -> None:
    """Recipes and convolutions each have bits of their own, so that none was trained in another's place."""
    assert len({digest for digests in here.values() for digest in digests}) == len(CASES)


def test_threads_are_part_of_the_promise(images: Path, here: dict[str, list[str]]) -> None:
    """Another number of threads gives other bits, which is why the environment of a checkpoint names it."""
    (case, *_) = CASES
    with_three = trained(images, [case], 2, TF_NUM_INTRAOP_THREADS="3")[case]
    assert with_three == with_three[:1] * 2
    assert with_three[0] != here[case][0]
