"""Fixtures that run the pipeline's tasks on real digits, without Prefect's engine, against a temporary MLflow store."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

from dcgan.data.dataset import Dataset
from dcgan.evaluation.examine import References
from dcgan.provenance import Configuration
from dcgan.recipe import SMOKE
from dcgan.training.run_folder import RunFolder
from tasks.context import Context, open_context
from tasks.download import download
from tasks.prepare import prepare
from tasks.register import register
from tasks.render import render
from tasks.results import Trained
from tasks.settings import Settings
from tasks.train import record, train
from tasks.training_run import TrainingRun, training_run
from tests import service_stack
from tests.checkpoints import checkpoint_after
from tracking.runs import create_run, upload_folder
from tracking.tags import CHECKPOINTS

AddRun = Callable[..., Path]


@dataclass(frozen=True)
class Pipeline:
    """The tasks, one by one, on the small dataset.

    Attributes:
        source: Folder of the small dataset.
        settings: Settings whose state folder is the test's own.
    """

    source: Path
    settings: Settings

    def prepare(self) -> Dataset:
        """Download and prepare the small dataset."""
        return prepare.fn(download.fn(str(self.source), self.settings), self.settings)

    def open(self) -> Context:
        """Open the MLflow store."""
        return open_context(self.settings)

    def configuration(self, dataset: Dataset, seed: int = 7, **changes: object) -> Configuration:
        """Return the recipe `smoke`, changed, on that dataset."""
        return Configuration(recipe=SMOKE.model_copy(update=changes), seed=seed, dataset_digest=dataset.digest)

    def train(
        self, configuration: Configuration, dataset: Dataset, resume: str = "auto", context: Context | None = None
    ) -> tuple[TrainingRun, Trained]:
        """Train in a run of its own, or in the one that `resume` finds."""
        context = context or self.open()
        references = References(dataset, self.settings.classifiers)
        with training_run(context, configuration, dataset.manifest, resume) as run:
            trained = train.fn(context, run, dataset, references, "cpu")
            record.fn(context, run, trained.checkpoint)
            return run, trained


@dataclass(frozen=True)
class TrainedRun:
    """A complete run of the tasks, and what each returned; tests only read it."""

    pipeline: Pipeline
    context: Context
    dataset: Dataset
    run: TrainingRun
    trained: Trained
    frames: int
    version: int


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return MLflow's database without an experiment, to copy: its dozens of migrations take seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_registered_models()
    return path


@pytest.fixture
def pipeline(small_folder: Path, state: Path, empty_database: Path) -> Pipeline:
    """Return the tasks on the small dataset; where no other fixture has filled it, the state has an empty database."""
    if not state.exists():
        state.mkdir()
        shutil.copy(empty_database, state / "mlflow.db")
    return Pipeline(small_folder, Settings(DCGAN_STATE=state))


@pytest.fixture(scope="session")
def complete_run(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """Run every task once in a state folder of its own."""
    pipeline = Pipeline(
        small_folder, Settings(DCGAN_STATE=tmp_path_factory.mktemp("trained") / "state", MLFLOW_TRACKING_URI=None)
    )
    dataset, context = pipeline.prepare(), pipeline.open()
    references = References(dataset, pipeline.settings.classifiers)
    with training_run(context, pipeline.configuration(dataset), dataset.manifest, "never") as run:
        trained = train.fn(context, run, dataset, references, "cpu")
        record.fn(context, run, trained.checkpoint)
        frames = render.fn(context, run, trained.checkpoint)
        version = register.fn(context, run, dataset.manifest, trained.checkpoint)
    return TrainedRun(pipeline, context, dataset, run, trained, frames, version)


@pytest.fixture
def trained(complete_run: TrainedRun, monkeypatch: pytest.MonkeyPatch) -> TrainedRun:
    """Return a complete run of the tasks, whose state folder and store are those of this process."""
    monkeypatch.setenv("DCGAN_STATE", str(complete_run.context.settings.root))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    complete_run.pipeline.open()  # MLflow's own address is the process's: that of the store that was opened last
    return complete_run


@pytest.fixture
def add_run(pipeline: Pipeline) -> AddRun:
    """Return a function that makes a run as training runs left it before finished ones kept fewer checkpoints."""
    context, manifest = pipeline.open(), pipeline.prepare().manifest

    def add(*, epochs: int = 5, status: str = "FINISHED", dataset_digest: str = manifest.digest, **tags: str) -> Path:
        configuration = Configuration(recipe=SMOKE, seed=7, dataset_digest=dataset_digest)
        dataset = manifest.model_copy(update={"digest": dataset_digest})
        run_id = create_run(context.store, configuration, dataset, tags)
        folder = RunFolder(pipeline.settings.runs / run_id)
        with folder.lock():
            for epoch in range(1, epochs + 1):
                folder.save(checkpoint_after(epoch, configuration))
                name = f"epoch-{epoch:06d}"
                upload_folder(context.store, run_id, folder.path / "states" / name, f"{CHECKPOINTS}/{name}")
        if status != "RUNNING":
            context.store.client.set_terminated(run_id, status)
        return folder.path

    return add


@pytest.fixture
def unregistered_run(trained: TrainedRun) -> TrainingRun:
    """Return another finished run with the same final state, which has registered nothing yet."""
    with training_run(trained.context, trained.run.configuration, trained.dataset.manifest, "never") as run:
        shutil.copytree(trained.run.folder / "states", run.folder / "states")
    return run


@pytest.fixture
def free_port() -> int:
    """Return a loopback port on which nothing listens."""
    return service_stack.free_port()
