"""Checkpoints as files: they come back as they were saved, and the newest whole one is resumed from."""

import hashlib
import io
import json
import logging
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from dcgan.errors import CheckpointError
from dcgan.files import TEMPORARY_PREFIX
from dcgan.provenance import Configuration
from dcgan.recipe import SMOKE
from dcgan.training.checkpoint import (
    ARRAYS_FILE,
    DIGESTS_FILE,
    GRIDS,
    METADATA_FILE,
    SELECTED,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from tests.checkpoints import ARRAYS, CONFIGURATION, FILES, GENERATOR, checkpoint_after, edit, flipped, save_states


def test_round_trip(saved):
    """Everything comes back with its bits, dtype, shape and order."""
    expected, found = checkpoint_after(2), load_checkpoint(saved)
    assert list(found.arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert (found.arrays[name].dtype, found.arrays[name].shape) == (array.dtype, array.shape)
        assert found.arrays[name].tobytes() == array.tobytes()
    assert found.selected_weights.keys() == GENERATOR.keys()
    assert all(np.array_equal(found.selected_weights[name], array) for name, array in GENERATOR.items())
    np.testing.assert_array_equal(found.grids, expected.grids)
    assert found.grids.dtype == np.uint8
    assert found.metadata == expected.metadata
    assert (found.epoch, found.metadata.step, found.weights_sha256()) == (2, 16, expected.weights_sha256())


def test_files_are_plain(saved):
    """A checkpoint is JSON, a zip of .npy files without one pickle, and the SHA-256 of both as sha256sum writes it."""
    assert sorted(file.name for file in saved.iterdir()) == [ARRAYS_FILE, METADATA_FILE, DIGESTS_FILE]
    digests = [line.split("  ") for line in (saved / DIGESTS_FILE).read_text().splitlines()]
    assert [name for _, name in digests] == [ARRAYS_FILE, METADATA_FILE]
    for digest, name in digests:
        assert digest == hashlib.sha256((saved / name).read_bytes()).hexdigest()
    assert json.loads((saved / METADATA_FILE).read_text())["epoch"] == 2
    with zipfile.ZipFile(saved / ARRAYS_FILE) as archive:
        names = [*ARRAYS, *(f"{SELECTED}{name}" for name in GENERATOR), GRIDS]
        assert archive.namelist() == [f"{name}.npy" for name in names]
        read = {name: np.load(io.BytesIO(archive.read(f"{name}.npy")), allow_pickle=False) for name in ARRAYS}
    assert all(np.array_equal(read[name], array) for name, array in ARRAYS.items())


def test_objects_are_not_written(tmp_path):
    """An array that would need a pickle is not saved, and nothing is left of the attempt."""
    checkpoint = replace(checkpoint_after(1), arrays={"x": np.array([{}], dtype=object)})
    with pytest.raises(ValueError, match="allow_pickle"):
        save_checkpoint(tmp_path / "epoch-1", checkpoint)
    assert list(tmp_path.iterdir()) == []


def test_saving_again_replaces(tmp_path):
    """A checkpoint saved where a damaged one lies takes its place, whole."""
    (path,) = save_states(tmp_path, 1)
    (path / ARRAYS_FILE).unlink()
    (path / "other").write_text("foreign")
    save_states(tmp_path, 1)
    assert load_checkpoint(path).epoch == 1
    assert sorted(file.name for file in path.iterdir()) == list(FILES)


def test_failed_saving_keeps_the_old_one(saved):
    """A write that fails half-way leaves the checkpoint that was there, and no other file."""
    broken = replace(checkpoint_after(2), arrays={**ARRAYS, "x": np.array([{}], dtype=object)})
    with pytest.raises(ValueError, match="allow_pickle"):
        save_checkpoint(saved, broken)
    assert load_checkpoint(saved).epoch == 2
    assert list(saved.parent.glob(f"{TEMPORARY_PREFIX}*")) == []


def test_newest_is_used(tmp_path, log):
    """Of whole checkpoints the first is used, and nothing is said; of none there is none."""
    newest = newest_checkpoint(save_states(tmp_path, 1, 2, 3), CONFIGURATION)
    assert newest is not None
    assert newest.epoch == 3
    assert newest_checkpoint([], CONFIGURATION) is None
    assert log.records == []


def test_damaged_ones_are_passed_over(tmp_path, log):
    """Damaged checkpoints are skipped, each with a warning that names it, down to one that is whole."""
    states = save_states(tmp_path, 1, 2, 3)
    edit(states[0] / ARRAYS_FILE, lambda content: flipped(content, 0.5))
    (states[1] / METADATA_FILE).unlink()
    newest = newest_checkpoint(states, CONFIGURATION)
    assert newest is not None
    assert newest.epoch == 1
    assert [record.levelno for record in log.records] == [logging.WARNING] * 2
    for path, message in zip(states, log.messages, strict=False):
        assert message.startswith(f"The checkpoint {path} is ")


def test_all_damaged_means_none(tmp_path, log):
    """Where no checkpoint is whole there is none to resume from, and each was warned of."""
    states = save_states(tmp_path, 1, 2)
    for state in states:
        (state / ARRAYS_FILE).unlink()
    assert newest_checkpoint(states, CONFIGURATION) is None
    assert len(log.records) == 2


def test_another_configuration_is_refused(saved):
    """The sentence names every field that differs, with the checkpoint's value and the one that is wanted here."""
    wanted = Configuration(
        recipe=SMOKE.model_copy(update={"epochs": 9, "beta_1": 0.25}),
        seed=5,
        dataset_digest=CONFIGURATION.dataset_digest,
    )
    with pytest.raises(CheckpointError) as refused:
        newest_checkpoint([saved], wanted)
    assert str(refused.value) == (
        f"The checkpoint {saved} belongs to another configuration: "
        f"epochs ({SMOKE.epochs}, here 9), beta_1 ({SMOKE.beta_1}, here 0.25), seed (1, here 5)."
    )


def test_older_ones_are_not_asked(tmp_path):
    """Only the checkpoint that is used must be of the configuration; what lies behind it does not matter."""
    other = CONFIGURATION.model_copy(update={"seed": 2})
    save_checkpoint(tmp_path / "epoch-1", checkpoint_after(1, other))
    (newest,) = save_states(tmp_path, 2)
    found = newest_checkpoint([newest, tmp_path / "epoch-1"], CONFIGURATION)
    assert found is not None
    assert found.epoch == 2
