"""Fixtures that run the pipeline's tasks on real digits, without Prefect's engine, against a temporary MLflow."""

import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from dcgan.dataset import Manifest
from dcgan.provenance import Configuration
from dcgan.recipe import SMOKE
from tasks.download import download
from tasks.prepare import prepare
from tasks.register import register
from tasks.render import render
from tasks.run import Run, training_run
from tasks.settings import read_settings
from tasks.train import Trained, train


@dataclass(frozen=True)
class Pipeline:
    """The tasks, one by one, on the small data set, in the state folder that the environment names."""

    source: Path

    def prepare(self) -> Manifest:
        """Download and prepare the small data set."""
        return prepare.fn(download.fn(str(self.source)))

    def configuration(self, dataset: Manifest, seed: int = 7, **changes: object) -> Configuration:
        """Return the recipe `smoke`, changed, on that data set."""
        return Configuration(recipe=SMOKE.model_copy(update=changes), seed=seed, dataset_digest=dataset.digest)

    def train(self, configuration: Configuration, dataset: Manifest, resume: str = "auto") -> tuple[Run, Trained]:
        """Train in a run of its own, or in the one that `resume` finds."""
        with training_run(configuration, dataset, resume) as run:
            return run, train.fn(run, dataset, "cpu")


@dataclass(frozen=True)
class TrainedRun:
    """A whole run of the tasks, and what each gave; tests only read it."""

    dataset: Manifest
    run: Run
    trained: Trained
    frames: int
    version: int


@pytest.fixture
def pipeline(small_folder: Path) -> Pipeline:
    """Return the tasks on the small data set."""
    return Pipeline(small_folder)


@pytest.fixture(scope="session")
def whole_run(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainedRun]:
    """Run every task once in a state folder of its own."""
    state = tmp_path_factory.mktemp("trained") / "state"
    pipeline = Pipeline(small_folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCGAN_STATE", str(state))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        dataset = pipeline.prepare()
        with training_run(pipeline.configuration(dataset), dataset, "never") as run:
            trained = train.fn(run, dataset, "cpu")
            frames = render.fn(run)
            version = register.fn(run, dataset, trained)
    return state, TrainedRun(dataset, run, trained, frames, version)


@pytest.fixture
def trained(whole_run: tuple[Path, TrainedRun], monkeypatch: pytest.MonkeyPatch) -> TrainedRun:
    """Return a whole run of the tasks, whose state folder and store are those of this process."""
    from tasks.tracking.store import Store

    state, result = whole_run
    monkeypatch.setenv("DCGAN_STATE", str(state))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Store(read_settings())  # MLflow's own address is the process's, and that of the store that was opened last
    return result


@pytest.fixture
def trained_again(trained: TrainedRun) -> Run:
    """Return another run with the same final state, which has registered nothing yet."""
    with training_run(trained.run.configuration, trained.dataset, "never") as run:
        shutil.copytree(trained.run.folder / "states", run.folder / "states")
    return run


@pytest.fixture
def free_port() -> int:
    """Return a loopback port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
