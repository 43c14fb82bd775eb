"""The reference baselines, and the command that makes them."""

import gzip
import logging

import numpy as np
import pytest

from dcgan.data.idx import TEST, TRAIN, idx_header
from dcgan.evaluation.baselines import baselines_for, measure_baselines
from dcgan.evaluation.classifiers import BUNDLED, CONFIGS, load_weights
from dcgan.evaluation.evaluate import Reference, prepare_reference
from dcgan.evaluation.make_classifiers import main
from dcgan.evaluation.memorization import Limits
from dcgan.evaluation.report import Baselines


@pytest.fixture(scope="module")
def few_images(test_images) -> np.ndarray:
    """1,000 test images."""
    return np.ascontiguousarray(test_images[::2])


@pytest.fixture(scope="module")
def reference(selection, few_images, test_labels) -> Reference:
    """The 1,000 test images in the features of the selection classifier."""
    return prepare_reference(selection, few_images, test_labels[::2])


@pytest.fixture(scope="module")
def baselines(reference, memorization, few_images) -> Baselines:
    """The baselines for the 1,000 test images."""
    return measure_baselines(reference, memorization, few_images)


def test_the_baselines_are_in_order(baselines):
    """Training images are nearest to the test images, and those of an untrained generator are farthest."""
    distances = [report.frechet_distance.value for report in (baselines.train, baselines.noisy, baselines.untrained)]
    assert distances == sorted(distances)
    assert baselines.train.frechet_distance.value < baselines.blurred.frechet_distance.value / 5
    assert baselines.train.memorized_fraction.value == 1
    assert baselines.untrained.missing_classes.value >= 8
    assert baselines.untrained.coverage.value < 0.01
    reports = (baselines.train, baselines.noisy, baselines.blurred, baselines.untrained)
    assert {report.images for report in reports} == {1000}


def test_baselines_are_measured_once(baselines, reference, memorization, few_images, tmp_path):
    """A file in a folder is read if it is intact and of this classifier and these test images."""
    cache, other = tmp_path / "cache", tmp_path / "other"
    path = cache / f"baselines-{reference.extractor.digest[:16]}-{reference.digest[:16]}.json"
    marked = baselines.model_copy(update={"noisy": baselines.train})
    cache.mkdir()
    path.write_text(marked.model_dump_json())
    assert baselines_for(reference, memorization, few_images, other, cache) == marked

    path.write_text("{}")
    assert baselines_for(reference, memorization, few_images, other, cache) == baselines
    assert Baselines.model_validate_json(path.read_bytes()) == baselines
    assert not other.exists()


def test_baselines_of_another_classifier_are_not_used(baselines, reference, memorization, few_images, tmp_path):
    """A file with the right name but the contents of another classifier is passed over."""
    name = f"baselines-{reference.extractor.digest[:16]}-{reference.digest[:16]}.json"
    foreign = baselines.train.model_copy(update={"classifier": "f" * 64})
    for folder, content in (("foreign", baselines.model_copy(update={"train": foreign})), ("cache", baselines)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(content.model_dump_json())
    found = baselines_for(reference, memorization, few_images, tmp_path / "foreign", tmp_path / "cache")
    assert found == baselines


@pytest.mark.parametrize("role", CONFIGS)
def test_the_bundle_has_the_baselines_of_mnist(role, request, test_split, memorization, tmp_path):
    """They are found for the bundled classifiers and the real test images, and nothing is measured."""
    reference = prepare_reference(request.getfixturevalue(role), *test_split)
    bundled = baselines_for(reference, memorization, test_split[0], BUNDLED, tmp_path)
    assert bundled.train.images == 10_000
    assert not list(tmp_path.iterdir())


def _write_idx(path, array):
    path.write_bytes(gzip.compress(idx_header(array) + array.tobytes()))


@pytest.mark.slow
def test_the_command_makes_weights_and_baselines(train_split, test_split, tmp_path, caplog):
    """From a folder of 1,000 + 1,000 digits: weights and baselines of both classifiers, of that dataset."""
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    out.mkdir()
    (out / "mine.json").write_text("{}")
    (out / "baselines-stale.json").write_text("{}")
    for files, (images, labels) in ((TRAIN, train_split), (TEST, test_split)):
        pixels = np.rint(images[:1000, ..., 0] * 127.5 + 127.5).astype(np.uint8)
        _write_idx(data / f"{files.images.name}.gz", pixels)
        _write_idx(data / f"{files.labels.name}.gz", labels[:1000])
    with caplog.at_level(logging.INFO, "dcgan"):
        main(["--data", str(data), "--out", str(out)])
    selection, held_out = (load_weights(out / f"{role}.npz").metadata for role in ("selection", "held_out"))
    assert (selection.role, held_out.role) == ("selection", "held_out")
    assert selection.dataset_digest == held_out.dataset_digest
    for metadata in (selection, held_out):
        assert metadata.weights_sha256 in caplog.text
        (path,) = out.glob(f"baselines-{metadata.weights_sha256[:16]}-*.json")
        baselines = Baselines.model_validate_json(path.read_bytes())
        assert baselines.train.classifier == metadata.weights_sha256
    limits = Limits.model_validate_json((out / f"memorization-{selection.dataset_digest[:16]}.json").read_bytes())
    assert limits.dataset_digest == selection.dataset_digest
    assert (out / "mine.json").exists()
    assert not (out / "baselines-stale.json").exists()


@pytest.mark.parametrize("role", CONFIGS)
def test_the_documents_have_the_bundled_baselines(role):
    """All rows of the tables in docs/quality.md, and the digests and accuracies in the README of the bundle."""
    page = (BUNDLED.parents[1] / "docs" / "quality.md").read_text()
    metadata = load_weights(BUNDLED / f"{role}.npz").metadata
    assert f"| {100 * metadata.accuracy:.2f} % | {metadata.weights_sha256} |" in (BUNDLED / "README.md").read_text()
    (path,) = BUNDLED.glob(f"baselines-{metadata.weights_sha256[:16]}-*.json")
    baselines = Baselines.model_validate_json(path.read_bytes())
    reports = (baselines.train, baselines.noisy, baselines.blurred, baselines.untrained)
    columns = [report.estimates() for report in reports]
    assert len(columns[0]) == 10
    for metric in columns[0]:
        cells = [str(column[metric]) for column in columns]
        assert f"| `{metric}` | {' | '.join(cells)} |" in page
