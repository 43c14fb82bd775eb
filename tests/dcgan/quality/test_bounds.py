"""Floors and ceilings, and the command that makes them."""

import gzip
import logging

import numpy as np
import pytest

from dcgan.idx import idx_header
from dcgan.mnist import TEST, TRAIN
from dcgan.quality.bounds import Bounds, bounds_for, measure_bounds, save_bounds
from dcgan.quality.evaluation import Reference, prepare_reference
from dcgan.quality.evaluator import BUNDLED
from dcgan.quality.make_evaluator import main
from dcgan.quality.stored_weights import load_weights


@pytest.fixture(scope="module")
def few_images(test_images) -> np.ndarray:
    """1,000 test images."""
    return np.ascontiguousarray(test_images[::2])


@pytest.fixture(scope="module")
def reference(evaluator, few_images) -> Reference:
    """What the evaluator sees in them."""
    return prepare_reference(evaluator, few_images)


@pytest.fixture(scope="module")
def bounds(reference, held_out, few_images) -> Bounds:
    """Measured on them."""
    return measure_bounds(reference, held_out, few_images)


def test_the_floor_is_below_the_ceilings(bounds):
    """Training images are nearest to the test images, and what an untrained generator makes is farthest."""
    distances = [report.frechet_distance.value for report in (bounds.floor, bounds.noisy, bounds.untrained)]
    assert distances == sorted(distances)
    assert bounds.floor.frechet_distance.value < bounds.blurred.frechet_distance.value / 5
    assert bounds.floor.copied_share.value == 1
    assert bounds.untrained.missing_classes.value >= 8
    assert bounds.untrained.coverage.value < 0.01
    assert {report.images for report in (bounds.floor, bounds.blurred, bounds.noisy, bounds.untrained)} == {1000}


def test_bounds_are_measured_once(bounds, reference, held_out, few_images, tmp_path):
    """Those in a folder are read, if they are whole and of this classifier and test half."""
    cache, other = tmp_path / "cache", tmp_path / "other"
    name = f"bounds-{reference.viewer.digest[:16]}-{reference.digest[:16]}.json"
    marked = bounds.model_copy(update={"noisy": bounds.floor})
    save_bounds(cache / name, marked)
    assert bounds_for(reference, held_out, few_images, other, cache) == marked

    (cache / name).write_text("{}")
    assert bounds_for(reference, held_out, few_images, other, cache) == bounds
    assert Bounds.model_validate_json((cache / name).read_bytes()) == bounds
    assert not other.exists()


@pytest.mark.parametrize("role", ["evaluator", "judge"])
def test_the_bundle_has_the_bounds_of_mnist(role, request, test_half, held_out, tmp_path):
    """They are found for the bundled classifiers and the real test half, with nothing measured."""
    classifier = request.getfixturevalue(role)
    bundled = bounds_for(prepare_reference(classifier, test_half[0]), held_out, test_half[0], BUNDLED, tmp_path)
    assert bundled.floor.images == 10_000
    assert not list(tmp_path.iterdir())


def _write_idx(path, array):
    path.write_bytes(gzip.compress(idx_header(array) + array.tobytes()))


@pytest.mark.slow
def test_the_command_makes_weights_and_bounds(train_half, test_half, tmp_path, caplog):
    """On a folder of 1,000 + 1,000 digits: two files of weights and two of bounds, of that data set."""
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    for files, (images, labels) in ((TRAIN, train_half), (TEST, test_half)):
        pixels = np.rint(images[:1000, ..., 0] * 127.5 + 127.5).astype(np.uint8)
        _write_idx(data / f"{files.images.name}.gz", pixels)
        _write_idx(data / f"{files.labels.name}.gz", labels[:1000])
    with caplog.at_level(logging.INFO, "dcgan"):
        main(["--data", str(data), "--out", str(out)])
    cards = [load_weights(out / f"{role}.npz").card for role in ("evaluator", "judge")]
    assert [card.role for card in cards] == ["evaluator", "judge"]
    assert cards[0].dataset_digest == cards[1].dataset_digest
    for card in cards:
        assert card.weights_sha256 in caplog.text
        (bounds,) = out.glob(f"bounds-{card.weights_sha256[:16]}-*.json")
        assert Bounds.model_validate_json(bounds.read_bytes()).floor.evaluator == card.weights_sha256


def test_the_documents_have_the_bundled_figures():
    """Every row of the two tables in docs/quality.md, and the digests and accuracies in the bundle's README."""
    page = (BUNDLED.parents[1] / "docs" / "quality.md").read_text()
    readme = (BUNDLED / "README.md").read_text()
    for role in ("evaluator", "judge"):
        card = load_weights(BUNDLED / f"{role}.npz").card
        assert f"| {100 * card.accuracy:.2f} % | {card.weights_sha256} |" in readme
        (path,) = BUNDLED.glob(f"bounds-{card.weights_sha256[:16]}-*.json")
        bounds = Bounds.model_validate_json(path.read_bytes())
        columns = [report.estimates() for report in (bounds.floor, bounds.noisy, bounds.blurred, bounds.untrained)]
        for figure in columns[0]:
            cells = [str(column[figure]) for column in columns]
            assert f"| `{figure}` | {' | '.join(cells)} |" in page
