"""A report of real digits and of the baselines of the bundled classifiers."""

from datetime import UTC, datetime

import numpy as np
import pytest

from dcgan.data.idx import read_images, read_labels
from dcgan.data.parquet import normalise
from dcgan.evaluation.classifiers import BUNDLED, load_weights
from dcgan.evaluation.features import Role
from dcgan.evaluation.gate import decide, gate_for
from dcgan.evaluation.memorization import (
    NearestPairs,
    closest_pairs,
    measure_memorization,
    prepare_memorization_reference,
)
from dcgan.evaluation.report import Baselines, QualityReport
from dcgan.report.render import ReportPage, SampleImages

HOSTILE = "\"><script>alert('1')</script><img src=https://example.org/x.png onerror=alert(1)>{{ 7 * 7 }}&amp;"


def _baselines(role: Role) -> Baselines:
    digest = load_weights(BUNDLED / f"{role}.npz").metadata.weights_sha256[:16]
    (file,) = BUNDLED.glob(f"baselines-{digest}-*.json")
    return Baselines.model_validate_json(file.read_bytes())


def _columns(baselines: Baselines) -> dict[str, QualityReport]:
    return {
        "version 2": baselines.noisy,
        "champion 1": baselines.blurred,
        "training images": baselines.train,
        "untrained": baselines.untrained,
    }


@pytest.fixture(scope="session")
def hostile() -> str:
    """The name of a data source that looks like markup and like a template."""
    return HOSTILE


@pytest.fixture(scope="session")
def pairs(mnist_folder) -> NearestPairs:
    """Ten of 1,000 test images with their nearest of 2,000 training images; one more is a training image itself."""
    images = read_images(mnist_folder / "train-images-idx3-ubyte.gz")
    labels = read_labels(mnist_folder / "train-labels-idx1-ubyte.gz")
    training = normalise(images[:2000])
    generated = normalise(np.concatenate([images[5000:6000], images[42:43]]))
    reference = prepare_memorization_reference(training, labels[:2000], normalise(images[2000:3000]))
    return closest_pairs(generated, measure_memorization(generated, reference, 2).nearest, reference, 11)


@pytest.fixture
def page(mnist_folder, pairs, hostile) -> ReportPage:
    """The report of `noisy` digits beside `blurred` ones, as if they were two versions; one of its facts is hostile."""
    selection, held_out = _baselines("selection"), _baselines("held_out")
    verdict = decide(selection.noisy, selection.blurred, gate_for(selection))
    losses = {1: 0.75, 2: 1.25, 3: 1.5, 4: 1.625}
    return ReportPage(
        title="dcgan-generator, version 2",
        made=datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
        facts={"Recipe": "fast", "Dataset": hostile, "MLflow run": "fast-seed0"},
        links={"MLflow run": "http://127.0.0.1:5000/#/run", "playground": "playground.html"},
        sentence=verdict.reason,
        verdict=verdict,
        selection=_columns(selection),
        held_out=_columns(held_out),
        samples=SampleImages(normalise(read_images(mnist_folder / "t10k-images-idx3-ubyte.gz")[:128]), pairs),
        history={
            "frechet_distance": {1: 310.25, 2: 41.5, 3: 12.125, 4: 13.5},
            "generator_loss": losses,
            "discriminator_loss": {1: 0.5, 2: 0.25},
        },
        best_epoch=3,
    )
