"""What the tests of the download share: where it lies, and what it left, said and brought."""

import logging
from pathlib import Path

import pytest

from dcgan.data.idx import FILES, IdxSet, read_idx_folder
from dcgan.files import LOCK_NAME


@pytest.fixture
def downloads(tmp_path) -> Path:
    """Return where a test's downloads lie; it is not there yet."""
    return tmp_path / "downloads"


@pytest.fixture(scope="session")
def small_digest(small_folder) -> str:
    """Return the dataset digest of the small set."""
    return read_idx_folder(small_folder, "x").digest


def warnings(log: pytest.LogCaptureFixture) -> list[str]:
    """Return the messages of this project's warnings."""
    return [r.getMessage() for r in log.records if r.name.startswith("dcgan") and r.levelno >= logging.WARNING]


def left_behind(downloads: Path) -> list[str]:
    """Return what a download left, but for its lock file."""
    return [path.name for path in downloads.iterdir() if path.name != LOCK_NAME] if downloads.exists() else []


def check_mnist(idx: IdxSet, source: str, folder: Path) -> None:
    """Assert that `idx` is MNIST from that source, whole, in that folder."""
    assert (idx.source, idx.folder) == (source, folder)
    assert [file.sha256 for file in idx.files] == [file.sha256 for file in FILES]
    assert read_idx_folder(folder, source) == idx
