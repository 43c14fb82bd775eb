"""The evaluation of versions against one dataset that a caller has already loaded."""

from pathlib import Path

import numpy as np
import pytest

from dcgan.data.dataset import Dataset, Manifest
from dcgan.data.parquet import COLUMNS, write_row_groups
from dcgan.errors import ModelError
from dcgan.evaluation.classifiers import BUNDLED, CONFIGS, load_weights, save_weights
from dcgan.evaluation.evaluate import Reference
from dcgan.evaluation.examine import Examiner, References
from dcgan.evaluation.gate import VersionMetrics, decide
from dcgan.evaluation.report import Baselines
from dcgan.files import sha256_of_file

DIGEST = "d" * 64
COUNT = 1000


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with MNIST's classifiers under the digest of another dataset."""
    folder = tmp_path_factory.mktemp("classifiers")
    for role in CONFIGS:
        save_weights(folder / DIGEST / f"{role}.npz", load_weights(BUNDLED / f"{role}.npz"))
    return folder


@pytest.fixture(scope="module")
def dataset(train_split, test_split, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A prepared dataset of 2,000 training images and 1,000 test images."""
    folder = tmp_path_factory.mktemp("prepared")
    splits = {}
    for name, rows, (images, labels) in (
        ("train", slice(2000), train_split),
        ("test", slice(None, None, 10), test_split),
    ):
        path = folder / f"{name}.parquet"
        write_row_groups(path, [(np.ascontiguousarray(images[rows]), np.ascontiguousarray(labels[rows]))], {})
        histogram = tuple(np.bincount(labels[rows], minlength=10).tolist())
        splits[name] = {
            "file": path.name,
            "rows": len(labels[rows]),
            "sha256": sha256_of_file(path),
            "label_histogram": histogram,
        }
    return Dataset(folder, Manifest(source="x", digest=DIGEST, columns=COLUMNS, **splits))


@pytest.fixture(scope="module")
def references(dataset, cache) -> References:
    """The test images in the features of both classifiers."""
    return References(dataset, cache)


def _baselines_of(reference: Reference) -> Baselines:
    """Return MNIST's baselines as if they had been measured for `reference`."""
    (path,) = BUNDLED.glob(f"baselines-{reference.extractor.digest[:16]}-*.json")
    bundled = Baselines.model_validate_json(path.read_bytes())
    changes = {"reference": reference.digest, "images": COUNT}
    return Baselines(**{name: report.model_copy(update=changes) for name, report in bundled})


@pytest.fixture(scope="module")
def examiner(dataset, references, cache) -> Examiner:
    """An examiner for these images, whose baselines are cached: measuring them takes long."""
    for role in CONFIGS:
        reference = references[role]
        name = f"baselines-{reference.extractor.digest[:16]}-{reference.digest[:16]}.json"
        (cache / DIGEST / name).write_text(_baselines_of(reference).model_dump_json())
    return Examiner(dataset, references, cache)


def _generator_of(images):
    """Return a generator that makes `images` one after another, whatever the latents are."""
    rows = iter(np.resize(images, (1024, 28, 28, 1)))
    return lambda latents: np.stack([next(rows) for _ in latents])


def test_the_reference_uses_the_cached_classifier(dataset, references, selection):
    """Nothing is trained, the features are those of that classifier, and they are computed once."""
    reference = references["selection"]
    assert reference.extractor.digest == selection.digest
    np.testing.assert_array_equal(reference.vectors, selection.extract(dataset.test[0]).vectors)
    assert references["selection"] is reference


def test_a_version_gets_metrics_and_nearest_pairs(examiner, train_split, selection, held_out):
    """As many images as there are test images, evaluated with both classifiers; copies are found."""
    metrics, pairs = examiner.examine(3, _generator_of(train_split[0][1500:2500]))
    assert (metrics.version, metrics.selection.images, metrics.held_out.images) == (3, COUNT, COUNT)
    assert (metrics.selection.classifier, metrics.held_out.classifier) == (selection.digest, held_out.digest)
    assert metrics.selection.memorized_fraction.value == pytest.approx(0.5, abs=0.05)
    assert metrics.held_out.memorized_fraction == metrics.selection.memorized_fraction
    assert pairs.images.shape == (24, 28, 28, 1)
    np.testing.assert_array_equal(pairs.images, pairs.training)
    assert len(metrics.metrics()) == 2 * 10
    assert metrics.metrics()["quality/confidence"] == metrics.selection.confidence.value
    assert metrics.metrics()["quality_heldout/confidence"] == metrics.held_out.confidence.value


def test_the_latents_are_always_the_same(examiner, train_split):
    """Versions are evaluated with the same latents, so that they compare."""
    asked = []

    def generator(latents):
        asked.append(latents)
        return train_split[0][: len(latents)]

    assert examiner.examine(1, generator).metrics.selection == examiner.examine(2, generator).metrics.selection
    np.testing.assert_array_equal(np.concatenate(asked[:2]), np.concatenate(asked[2:]))


def test_what_is_not_a_generator_is_named(examiner):
    """Images of another type: one sentence with the version."""
    with pytest.raises(ModelError, match="Version 7 cannot be evaluated: The generator "):
        examiner.examine(7, lambda latents: np.zeros((len(latents), 28, 28, 1)))


def test_the_baselines_are_those_of_each_classifier(examiner, references):
    """They are found in the folder of the dataset."""
    for role, baselines in (
        ("selection", examiner.selection_baselines),
        ("held_out", examiner.held_out_baselines),
    ):
        assert baselines == _baselines_of(references[role])


@pytest.fixture(scope="module")
def versions(examiner, train_split) -> tuple[VersionMetrics, VersionMetrics]:
    """A candidate of real digits, and a champion of noisy ones."""
    real = examiner.examine(2, _generator_of(train_split[0][3000:4000])).metrics
    return real, VersionMetrics(
        version=1, selection=examiner.selection_baselines.noisy, held_out=examiner.held_out_baselines.noisy
    )


def test_the_gate_compares_with_the_champion(examiner, versions):
    """The verdict is that of the selection classifier, with the gate of this dataset."""
    candidate, champion = versions
    evaluation = examiner.compare(candidate, champion, same_dataset=True, is_champion=False)
    assert evaluation.verdict == decide(candidate.selection, champion.selection, examiner.selection_baselines)
    assert evaluation.verdict.passed
    assert (evaluation.dataset_digest, evaluation.champion_version) == (DIGEST, 1)


def test_the_champion_is_not_compared_with_itself(examiner, versions):
    """It has no verdict."""
    evaluation = examiner.compare(versions[0], None, same_dataset=True, is_champion=True)
    assert evaluation.verdict is None
    assert evaluation.sentence == "Version 2 is the champion."


def test_the_first_version_has_no_champion(examiner, versions):
    """The conditions alone decide."""
    evaluation = examiner.compare(versions[0], None, same_dataset=True, is_champion=False)
    assert evaluation.verdict.passed
    assert evaluation.champion_version is None
