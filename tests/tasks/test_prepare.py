"""The preparation task: from a download to a prepared dataset under the state folder."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dcgan.data.dataset import read_manifest
from dcgan.data.idx import read_labels
from dcgan.data.parquet import read_parquet
from dcgan.errors import DataError
from dcgan.files import LOCK_NAME, TEMPORARY_PREFIX
from tasks.download import download
from tasks.prepare import prepare
from tasks.settings import Settings


def test_the_whole_mnist_is_prepared(state):
    """All 70,000 digits become Parquet under the state folder, by their digest, with MNIST's histogram and range."""
    settings = Settings(DCGAN_STATE=state)
    dataset = prepare.fn(download.fn("bundled", settings), settings)
    manifest, folder = dataset.manifest, dataset.folder
    assert folder == state / "data" / "prepared" / "ca679089cd9dd461d7b26e36e51216fc71f9271f8082e09656a7c1d29a50483b"
    assert read_manifest(folder) == manifest
    assert (manifest.source, manifest.train.rows, manifest.test.rows) == ("bundled", 60_000, 10_000)
    assert manifest.train.label_histogram == (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
    assert manifest.test.label_histogram == (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
    images, labels = read_parquet(folder / manifest.train.file)
    assert (images.shape, images.dtype, labels.shape) == ((60_000, 28, 28, 1), np.float32, (60_000,))
    assert (float(images.min()), float(images.max())) == (-1.0, 1.0)


def test_another_source_of_the_same_data_is_not_prepared_again(state, small_folder, tmp_path):
    """The folder is found by the data, wherever the data came from and however it was packed."""
    settings = Settings(DCGAN_STATE=state)
    first = prepare.fn(download.fn(str(small_folder), settings), settings)
    before = {path: path.stat().st_mtime_ns for path in state.rglob("*.parquet")}
    repacked = tmp_path / "repacked"
    repacked.mkdir()
    for path in small_folder.iterdir():
        (repacked / path.name).write_bytes(path.read_bytes() + b"\0" * 8)  # gzip allows zeros at the end
    again = download.fn(str(repacked), settings)
    assert again.source == str(repacked)
    assert prepare.fn(again, settings).manifest == first.manifest
    assert {path: path.stat().st_mtime_ns for path in state.rglob("*.parquet")} == before


def test_a_download_that_vanished_is_named(state, small_folder):
    """A file that is gone between the two tasks gives one sentence and no folder."""
    settings = Settings(DCGAN_STATE=state)
    downloaded = download.fn(str(small_folder), settings)
    (downloaded.folder / downloaded.test.labels.name).unlink()
    with pytest.raises(DataError) as caught:
        prepare.fn(downloaded, settings)
    path = downloaded.folder / downloaded.test.labels.name
    assert str(caught.value) == f"{path}: cannot be read: No such file or directory."
    assert [path.name for path in settings.prepared.iterdir() if path.name != LOCK_NAME] == []


PREPARE = """
import sys
import flows
from tasks.download import download
from tasks.prepare import prepare
from tasks.settings import Settings

settings = Settings.read()
print("ready", flush=True)
sys.stdin.readline()
print(prepare.fn(download.fn("bundled", settings), settings).manifest.model_dump_json())
"""


@pytest.mark.slow
def test_two_processes_prepare_the_same_data_at_once(state):
    """Two that begin together with no state folder agree on one dataset, which is whole, and leave nothing else."""
    both = [
        subprocess.Popen(
            [sys.executable, "-c", PREPARE],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert answers[0] == answers[1]
    (folder,) = (path for path in (state / "data" / "prepared").iterdir() if path.name != LOCK_NAME)
    manifest = read_manifest(folder)
    assert manifest.model_dump_json() == answers[0].strip()
    assert len(read_parquet(folder / manifest.train.file)[0]) == 60_000
    assert list(state.rglob(f"{TEMPORARY_PREFIX}*")) == []


def test_a_class_that_is_never_trained_on_is_mentioned(state, small_folder, write_idx, tmp_path, log):
    """The gate would refuse every generator for the class that is missing; now it is known why."""
    copied = shutil.copytree(small_folder, tmp_path / "copied")
    labels = read_labels(copied / "train-labels-idx1-ubyte.gz")
    write_idx(copied / "train-labels-idx1-ubyte.gz", np.where(labels == 3, 4, labels).astype(np.uint8))
    settings = Settings(DCGAN_STATE=state)
    for _ in range(2):
        log.clear()
        prepare.fn(download.fn(str(copied), settings), settings)
        assert "No training image has the labels 3, which test images have;" in log.text


def test_test_images_that_are_trained_on_are_refused(state, small_folder, tmp_path):
    """Every metric of a generator would be void, and one of them a division by zero, after hours of training."""
    copied = tmp_path / "copied"
    copied.mkdir()
    for path in small_folder.glob("train-*"):
        for name in (path.name, path.name.replace("train", "t10k")):
            (copied / name).write_bytes(path.read_bytes())
    settings = Settings(DCGAN_STATE=state)
    with pytest.raises(DataError) as refusal:
        prepare.fn(download.fn(str(copied), settings), settings)
    assert str(refusal.value) == (
        f"{copied}: 600 of the 600 test images are training images too; expected test images that are not trained on."
    )
