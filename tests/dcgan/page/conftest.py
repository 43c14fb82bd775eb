"""A page of real digits and of the bundled classifiers' own bounds."""

import numpy as np
import pytest

from dcgan.idx import read_images, read_labels
from dcgan.page.exhibits import Exhibits
from dcgan.page.quality import QualityPage
from dcgan.parquet import normalise
from dcgan.quality.bounds import Bounds
from dcgan.quality.evaluator import BUNDLED
from dcgan.quality.gate import decide, gate_for
from dcgan.quality.memorisation import Pairs, closest_pairs, measure_copying, prepare_held_out
from dcgan.quality.stored_weights import load_weights

HOSTILE = "\"><script>alert('1')</script><img src=https://example.org/x.png onerror=alert(1)>{{ 7 * 7 }}&amp;"


def _bounds(role: str) -> Bounds:
    digest = load_weights(BUNDLED / f"{role}.npz").card.weights_sha256[:16]
    (file,) = BUNDLED.glob(f"bounds-{digest}-*.json")
    return Bounds.model_validate_json(file.read_bytes())


@pytest.fixture(scope="session")
def pairs(mnist_folder) -> Pairs:
    """Ten of 1,000 test images beside their nearest of 2,000 training images; one more is a training image itself."""
    images = read_images(mnist_folder / "train-images-idx3-ubyte.gz")
    labels = read_labels(mnist_folder / "train-labels-idx1-ubyte.gz")
    training = normalise(images[:2000])
    generated = normalise(np.concatenate([images[5000:6000], images[42:43]]))
    held_out = prepare_held_out(training, labels[:2000], normalise(images[2000:3000]))
    return closest_pairs(generated, measure_copying(generated, held_out, 2).nearest, held_out, 11)


@pytest.fixture
def page(mnist_folder, pairs) -> QualityPage:
    """The page of `noisy` digits beside `blurred` ones, as if they were two versions; its names are hostile."""
    bounds = {role: _bounds(role) for role in ("evaluator", "judge")}
    columns = {
        role: {
            "version 2": each.noisy,
            "champion 1": each.blurred,
            "training images": each.floor,
            "untrained": each.untrained,
        }
        for role, each in bounds.items()
    }
    verdict = decide(bounds["evaluator"].noisy, bounds["evaluator"].blurred, gate_for(bounds["evaluator"]))
    distances = {1: 310.25, 2: 41.5, 3: 12.125, 4: 13.5}
    losses = {1: 0.75, 2: 1.25, 3: 1.5, 4: 1.625}
    return QualityPage(
        title="dcgan-generator, version 2",
        facts={"Recipe": "fast", "Data set": HOSTILE},
        sentence=verdict.reason,
        verdict=verdict,
        evaluator=columns["evaluator"],
        judge=columns["judge"],
        exhibits=Exhibits(normalise(read_images(mnist_folder / "t10k-images-idx3-ubyte.gz")[:128]), pairs),
        history={"frechet_distance": distances, "generator_loss": losses, "discriminator_loss": {1: 0.5, 2: 0.25}},
        best_epoch=3,
    )
