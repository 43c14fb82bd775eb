"""The benchmark of much data: what is trained on, and that its results follow from the turns and the records."""

import sys

import numpy as np
import pytest

from benchmarks.scale import compare_epochs, shifted_digits
from benchmarks.worker import Worker
from dcgan.data.parquet import ROW_GROUP_ROWS, write_row_groups


def test_digits_are_shifted_by_a_seed():
    """The row groups have as many rows as asked for, with their labels, each other ones, and the same every time."""
    groups, again = (list(shifted_digits(ROW_GROUP_ROWS + 100)) for _ in range(2))
    assert [len(labels) for _, labels in groups] == [ROW_GROUP_ROWS, 100]
    for (images, labels), (same_images, same_labels) in zip(groups, again, strict=True):
        assert images.shape == (len(labels), 28, 28, 1)
        np.testing.assert_array_equal(images, same_images)
        np.testing.assert_array_equal(labels, same_labels)
    assert not np.array_equal(groups[0][1][:100], groups[1][1])


def test_epochs_are_compared_by_their_records():
    """The first epochs are compared with the last ones, without the very first."""
    seconds = [99.0, *[1.0] * 5, *[7.0] * 20, *[2.0] * 4]
    records = [
        {"metrics": {"epoch_seconds": each, "peak_memory_mb": 500.0 + index}} for index, each in enumerate(seconds)
    ]
    assert compare_epochs(records) == {
        "epochs": 30,
        "early_epoch_seconds": 1.0,
        "late_epoch_seconds": 2.0,
        "memory_growth_mb": 24.0,
    }


@pytest.mark.slow
def test_worker_trains_on_a_file(tmp_path):
    """A process runs the requested steps on a file's images, and reports its peak memory."""
    write_row_groups(tmp_path / "train.parquet", shifted_digits(200), {})
    arguments = (str(tmp_path / "train.parquet"), "150")
    with Worker(sys.executable, "parquet_file", 32, {}, arguments, steps=2) as worker:
        worker.take_turn()
        assert worker.turns[0] > 0
        assert 50 < worker.peak_memory_mb < 1e6
