"""Fixtures that every test may use: the bundled MNIST, a small set of its digits, and a state folder of one's own."""

import gzip
import logging
import os
import shutil
import sysconfig
import tempfile
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from dcgan.data.idx import TEST, TRAIN, idx_header, read_images, read_labels
from tasks.settings import quiet_imports, set_default_environment

# Prefect makes its folder when it is imported: not in the checkout, and not in the user's home
STATE = Path(tempfile.mkdtemp(prefix="dcgan-tests-"))
os.environ["DCGAN_STATE"] = str(STATE)
for variable in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME"):
    os.environ.pop(variable, None)
set_default_environment()

import flows  # noqa: E402, F401 - which reads the environment above, and sets the level of the library's log

# in a process of pytest-xdist, what this writes would reach the terminal
with quiet_imports():
    import mlflow
    import tensorflow  # noqa: F401

pytest_plugins = [
    "tests.checkpoints",
    "tests.downloads",
    "tests.service_stack",  # before those that import it, or its assertions would not be rewritten
    "tests.pipeline",
    "tests.registry",
    "tests.web",
]

CHECKOUT = Path(__file__).resolve().parent.parent
TRAIN_ROWS, TEST_ROWS = 600, 100

WriteIdx = Callable[[Path, np.ndarray], Path]


def pytest_unconfigure() -> None:
    """Remove the state folder of tests that name none."""
    shutil.rmtree(STATE, ignore_errors=True)


def _write_idx(path: Path, array: np.ndarray) -> Path:
    content = idx_header(array) + array.tobytes()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


@pytest.fixture(scope="session")
def write_idx() -> WriteIdx:
    """Return a function that writes a uint8 array as an IDX file, gzipped when its name ends in .gz."""
    return _write_idx


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """Return the folder of the complete, bundled MNIST."""
    return CHECKOUT / "data" / "mnist"


@pytest.fixture(scope="session")
def small_folder(mnist_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the first 600 training and 100 test digits of MNIST, gzipped; tests only read it."""
    folder = tmp_path_factory.mktemp("small")
    for files, rows in ((TRAIN, TRAIN_ROWS), (TEST, TEST_ROWS)):
        images = read_images(mnist_folder / f"{files.images.name}.gz")
        labels = read_labels(mnist_folder / f"{files.labels.name}.gz")
        _write_idx(folder / f"{files.images.name}.gz", images[:rows])
        _write_idx(folder / f"{files.labels.name}.gz", labels[:rows])
    return folder


@pytest.fixture(scope="module", autouse=True)
def _no_store_of_another_module() -> Iterator[None]:
    """Let MLflow forget the store that this process opened: a client that names no registry would ask that one."""
    yield
    mlflow.set_tracking_uri("")
    mlflow.set_registry_uri("")


@pytest.fixture(scope="session")
def python_without_templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Python with the same packages in an environment of its own, for which no database template was made."""
    folder = tmp_path_factory.mktemp("python")
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "real.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})")
    return folder / "bin" / "python"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty state folder that the settings of this process name."""
    folder = tmp_path / "state"
    monkeypatch.setenv("DCGAN_STATE", str(folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Return what is logged from here on, all levels, all loggers."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, logger="filelock")  # else every lock that is taken
    return caplog
