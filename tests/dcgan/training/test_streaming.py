"""Training on more images than the device holds: the bits of a run that holds them all, also after a break."""

from pathlib import Path

import numpy as np
import pytest

from dcgan.data.idx import TRAIN, read_images
from dcgan.data.parquet import ParquetImages, normalise, write_row_groups
from dcgan.errors import DataError
from dcgan.provenance import Configuration
from dcgan.recipe import FAST
from dcgan.training import loop as training
from dcgan.training.loop import EpochReport, train
from dcgan.training.step import Gan, StepMetrics
from dcgan.training.streaming import ResidentData, StreamedData, chunk_plans, open_training_data

ROWS, GROUP, BATCH, EPOCHS = 70, 12, 16, 2
GROUP_ROWS = [12, 12, 12, 12, 12, 10]
RECIPE = FAST.model_copy(
    update={"name": "test", "epochs": EPOCHS, "batch_size": BATCH, "shuffle_buffer_images": 30, "precision": "float32"}
)
CONFIGURATION = Configuration(recipe=RECIPE, seed=5, dataset_digest="d" * 64)


@pytest.fixture(scope="module")
def images(small_folder) -> np.ndarray:
    """Return the first 70 digits of MNIST, float32 (70, 28, 28, 1) in [-1, 1]."""
    return normalise(read_images(small_folder / f"{TRAIN.images.name}.gz")[:ROWS])


def write(path: Path, images: np.ndarray) -> Path:
    """Write images in small row groups, all with the label 0."""
    groups = (images[start : start + GROUP] for start in range(0, len(images), GROUP))
    write_row_groups(path, ((group, np.zeros(len(group), np.uint8)) for group in groups), {})
    return path


@pytest.fixture(scope="module")
def file(images, tmp_path_factory) -> ParquetImages:
    """Return the digits in a Parquet file of six row groups."""
    return ParquetImages(write(tmp_path_factory.mktemp("file") / "train.parquet", images))


@pytest.fixture(scope="module")
def streamed(file) -> list[EpochReport]:
    """Return the reports of a streamed training, never interrupted, some of whose calls hold several steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "SECONDS_PER_CALL", 1e9)
        return list(train(CONFIGURATION, file))


def file_rows(epoch: int, group_rows: list[int] = GROUP_ROWS) -> np.ndarray:
    """Return the rows of the file in each batch of an epoch, int32 (steps, batch)."""
    left, batches = np.empty(0, np.int32), []
    for run in chunk_plans(CONFIGURATION.seed, epoch, group_rows, BATCH, RECIPE.shuffle_buffer_images):
        new = [GROUP * group + np.arange(group_rows[group], dtype=np.int32) for group in run.groups]
        rows = np.concatenate([left, *new])
        batches.append(rows[run.order])
        left = rows[run.left]
    return np.concatenate(batches)


def require_same_arrays(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Assert that two states have the same arrays, bit for bit."""
    assert list(found) == list(expected)
    assert [name for name, array in expected.items() if found[name].tobytes() != array.tobytes()] == []


def test_file_tells_its_row_groups(file):
    """A file is as long as its row groups together, and opening it reads no image."""
    assert (file.group_rows, len(file)) == (GROUP_ROWS, ROWS)


@pytest.mark.parametrize("max_images", [None, 41])
def test_parts_hold_the_planned_images(file, images, max_images):
    """Each batch, taken from its chunk, holds the images of the planned rows, of the first ones where not all count."""
    recipe = RECIPE.model_copy(update={"max_images": max_images})
    data, resident = open_training_data(file, recipe)
    assert isinstance(data, StreamedData)
    assert (data.rows, data.steps_per_epoch) == ((70, 4) if max_images is None else (41, 2))
    there, batches = resident, []
    for chunk in data.epoch(CONFIGURATION.seed, 1):
        there = np.concatenate([there[chunk.retained], *chunk.blocks])
        assert len(there) <= data.capacity == len(resident)
        batches.append(there[chunk.order])
    assert len(batches) == (3 if max_images is None else 2)
    rows = file_rows(1, GROUP_ROWS if max_images is None else [12, 12, 12, 5, 0, 0])
    assert rows.max() < data.rows
    np.testing.assert_array_equal(np.concatenate(batches), images[rows])


def test_streamed_training_is_the_resident_one(streamed, images):
    """A model that holds all images and is fed the same rows by hand has the same losses and the same bits."""
    gan = Gan(RECIPE, CONFIGURATION.seed, images)
    for epoch, report in enumerate(streamed, start=1):
        rows = file_rows(epoch)
        metrics = gan.run(rows, first_step=report.record.step - len(rows))
        means = {name: float(np.mean(values, dtype=np.float64)) for name, values in metrics._asdict().items()}
        assert {name: report.record.metrics[name] for name in StepMetrics._fields} == means
        require_same_arrays(report.checkpoint.arrays, gan.state())


@pytest.mark.slow
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(streamed, file, monkeypatch):
    """From the state after the first epoch, step by step, a streamed training ends in the same bits."""
    monkeypatch.setattr(training, "SECONDS_PER_CALL", 0.0)
    progress = []
    (rest,) = train(CONFIGURATION, file, streamed[0].checkpoint, on_progress=progress.append)
    require_same_arrays(rest.checkpoint.arrays, streamed[1].checkpoint.arrays)
    np.testing.assert_array_equal(rest.checkpoint.grids, streamed[1].checkpoint.grids)
    assert [(p.step, p.steps_per_epoch) for p in progress] == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_other_images_are_not_traced_again(images):
    """However many images replace those before, the step is the one compiled first."""
    gan = Gan(RECIPE, CONFIGURATION.seed, images)
    for count in (20, 30, 0):
        gan.replace_images(np.arange(count // 2), [images[:count], images[:5]])
        gan.run(np.arange(BATCH, dtype=np.int32)[None], first_step=0)
    assert gan._run.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(("max_images", "shuffle_buffer_images"), [(None, ROWS), (30, 30), (None, 65_536)])
def test_what_fits_is_held_whole(file, images, max_images, shuffle_buffer_images):
    """A file with no more images than are shuffled together is one chunk, ordered as an array of them is."""
    recipe = RECIPE.model_copy(update={"max_images": max_images, "shuffle_buffer_images": shuffle_buffer_images})
    found, expected = (open_training_data(source, recipe) for source in (file, images))
    assert [type(data) for data, _ in (found, expected)] == [ResidentData, ResidentData]
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(expected[1], images[:max_images])
    for (one,), (other,) in [(data.epoch(0, epoch) for data, _ in (found, expected)) for epoch in (1, 2)]:
        assert one.blocks is other.blocks is None
        np.testing.assert_array_equal(one.order, other.order)


def test_an_array_is_never_divided(images):
    """An array is in memory anyway, so all of it is shuffled together."""
    data, resident = open_training_data(images, RECIPE)
    assert (type(data), len(resident)) == (ResidentData, ROWS)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (61, r"row group 5 has 1 rows; expected at least 10\.$"),
        (48, r"has 4 row groups; expected at least [56]\.$"),
    ],
)
def test_a_file_that_was_replaced_is_one_sentence(images, tmp_path, rows, sentence):
    """A file that has become shorter while it is trained on is one sentence, not a wrong batch."""
    path = write(tmp_path / "train.parquet", images)
    data, _ = open_training_data(ParquetImages(path), RECIPE)
    write(path, images[:rows])
    with pytest.raises(DataError, match=sentence):
        [list(chunk.blocks) for chunk in data.epoch(CONFIGURATION.seed, 1)]


def test_a_file_that_is_gone_is_one_sentence(images, tmp_path):
    """A file that is removed while it is trained on is one sentence that names it."""
    path = write(tmp_path / "train.parquet", images)
    data, _ = open_training_data(ParquetImages(path), RECIPE)
    path.unlink()
    with pytest.raises(DataError, match=r"train\.parquet: cannot be read"):
        next(next(data.epoch(CONFIGURATION.seed, 1)).blocks)
