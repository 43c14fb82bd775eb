"""A report and a comparison of real digits and of the baselines of the bundled classifiers."""

import math
from datetime import UTC, datetime

import numpy as np
import pytest

from dcgan.data.idx import read_images, read_labels
from dcgan.data.parquet import normalise
from dcgan.evaluation.classifiers import BUNDLED, load_weights
from dcgan.evaluation.features import Role
from dcgan.evaluation.gate import Evaluation, VersionMetrics, decide
from dcgan.evaluation.memorization import (
    NearestPairs,
    closest_pairs,
    measure_memorization,
    prepare_memorization_reference,
)
from dcgan.evaluation.report import Baselines, QualityReport
from dcgan.images import image_grid, png_bytes, upscaled
from dcgan.report.comparison import ComparedRun, SampleGrid
from dcgan.report.render import ReportPage, SampleImages

HOSTILE = "\"><script>alert('1')</script><img src=https://example.org/x.png onerror=alert(1)>{{ 7 * 7 }}&amp;"


def baselines(role: Role) -> Baselines:
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
    selection, held_out = baselines("selection"), baselines("held_out")
    verdict = decide(selection.noisy, selection.blurred, selection)
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


def _evaluation(kind: str) -> Evaluation:
    """Return the evaluation of images of known quality as if they were a generator's."""
    selection, held_out = baselines("selection"), baselines("held_out")
    metrics = VersionMetrics(version=1, selection=getattr(selection, kind), held_out=getattr(held_out, kind))
    return Evaluation(
        dataset_digest="d" * 64,
        same_dataset=True,
        candidate=metrics,
        champion=None,
        selection_baselines=selection,
        held_out_baselines=held_out,
        verdict=None,
    )


@pytest.fixture
def compared(mnist_folder, hostile) -> list[ComparedRun]:
    """Three runs: one of `noisy` digits, one of `blurred` ones, and one that has just begun and has hostile texts."""
    digits = normalise(read_images(mnist_folder / "t10k-images-idx3-ubyte.gz")[:32])
    grids = [
        SampleGrid(epoch, png_bytes(upscaled(image_grid(digits[16 * i :][:16])))) for i, epoch in enumerate((4, 2))
    ]
    facts = {
        "Status": "finished",
        "Epochs": "4 of 4",
        "Device": "AMD EPYC, 2 threads",
        "Started": "2026-11-26 15:31 UTC",
    }
    return [
        ComparedRun(
            run_id="0" * 32,
            name="fast-seed0",
            url="http://127.0.0.1:5000/#/experiments/1/runs/" + "0" * 32,
            facts=facts | {"Duration": "0:09:27"},
            parameters={"batch_size": "64", "beta_1": "0.5", "seed": "0"},
            digests={"dataset digest": "d" * 12, "code digest": "c" * 12},
            curves={
                "generator_loss": {1: 0.75, 2: 1.25, 3: 1.5, 4: 1.625},
                "discriminator_loss": {1: 0.5, 2: 0.45, 3: 0.4, 4: 0.38},
                "frechet_distance": {1: 310.25, 2: 41.5, 3: 12.125, 4: 13.5},
                "images_per_second": {1: 640.0, 2: 652.0, 3: 649.0, 4: 651.0},
            },
            evaluation=_evaluation("noisy"),
            grid=grids[0],
        ),
        ComparedRun(
            run_id="1" * 32,
            name="wide-seed0",
            url=None,
            facts=facts,
            parameters={"batch_size": "128", "beta_1": "0.5", "seed": "0", "hidden_units": "256"},
            digests={"dataset digest": "d" * 12, "code digest": "e" * 12},
            curves={
                "discriminator_loss": {1: 0.25, 2: 0.375},
                "frechet_distance": {1: 290.5, 2: math.nan},
                "images_per_second": {1: 700.0, 2: 702.0},
            },
            evaluation=_evaluation("blurred"),
            grid=grids[1],
        ),
        ComparedRun(
            run_id="2" * 32,
            name=hostile,
            url=None,
            facts={"Status": "running", "Device": hostile},
            parameters={"batch_size": hostile, "beta_1": "0.5", hostile: "0" * 400, "seed": "1"},
            digests={"dataset digest": "d" * 12},
            curves={},
            evaluation=None,
            grid=None,
        ),
    ]
