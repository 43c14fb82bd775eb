"""What a finished run keeps in MLflow: its newest and its best checkpoint, removed safely from every kind of store."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from dcgan.errors import LeaseLostError, TrackingError
from dcgan.training.checkpoint import load_checkpoint
from dcgan.training.run_folder import surplus_epochs
from tasks.settings import Settings
from tests.pipeline import Pipeline
from tests.servers import collect_garbage, mlflow_server
from tracking.lease import Holder, Lease
from tracking.metrics import BEST_EPOCH, metric_name
from tracking.retention import recorded_run, remove_checkpoints, surplus_checkpoints, uploaded_checkpoints
from tracking.store import Store


@pytest.fixture
def store(pipeline) -> Store:
    """Return an open store."""
    return pipeline.open().store


def names_of(checkpoints) -> list[str]:
    return [checkpoint.name for checkpoint in checkpoints]


def epochs(*numbers: int) -> list[str]:
    return [f"epoch-{number:06d}" for number in numbers]


def leased(store: Store, run_id: str) -> Lease:
    lease = Lease(store, run_id, Holder(host="a", folder="/a"))
    lease.take()
    return lease


def surplus_of(store: Store, run_id: str, newest: int = 1) -> list:
    return surplus_checkpoints(uploaded_checkpoints(store, run_id), newest, recorded_run(store, run_id).best_epoch)


@pytest.mark.parametrize(
    ("newest", "best", "surplus"),
    [
        (1, None, [1, 2, 9]),
        (1, 10, [1, 2, 9]),
        (1, 2, [1, 9]),
        (1, 3, [1, 2, 9]),  # whose checkpoint was never uploaded
        (2, 1, [2]),
        (4, None, []),
        (9, None, []),
    ],
)
def test_newest_and_best_are_kept(newest, best, surplus):
    """Everything else is surplus, oldest first."""
    assert surplus_epochs(epochs(10, 2, 1, 9), newest, best) == epochs(*surplus)


def test_surplus_checkpoints_are_removed(store, add_run):
    """The newest and the best stay, and so does what somebody put beside them."""
    run_id = add_run().name
    store.client.log_text(run_id, "mine", "checkpoints/notes/a.txt")
    store.client.log_metric(run_id, metric_name(BEST_EPOCH), 3, step=0)
    before = [checkpoint.size for checkpoint in uploaded_checkpoints(store, run_id)]
    surplus = surplus_of(store, run_id)
    assert names_of(surplus) == epochs(1, 2, 4)
    assert min(checkpoint.size for checkpoint in surplus) > 1000
    remove_checkpoints(store, leased(store, run_id), surplus)
    left = uploaded_checkpoints(store, run_id)
    assert names_of(left) == epochs(3, 5)
    assert [checkpoint.size for checkpoint in left] == [before[2], before[4]]
    assert load_checkpoint(Path(store.client.download_artifacts(run_id, left[-1].path))).epoch == 5
    assert store.client.list_artifacts(run_id, "checkpoints/notes")
    assert surplus_of(store, run_id) == []


def test_a_half_removed_checkpoint_counts_as_none(store, add_run):
    """Neither does it count as one of the newest, nor is it kept as the best."""
    run_id = add_run().name
    artifacts = Path(store.client.get_run(run_id).info.artifact_uri.removeprefix("file://")) / "checkpoints"
    (artifacts / "epoch-000005" / "arrays.npz").unlink()
    assert names_of(surplus_of(store, run_id)) == epochs(1, 2, 3, 5)
    store.client.log_metric(run_id, metric_name(BEST_EPOCH), 5, step=0)
    assert names_of(surplus_of(store, run_id, newest=2)) == epochs(1, 2, 5)
    for path in artifacts.glob("*/checkpoint.sha256"):
        path.unlink()
    assert surplus_of(store, run_id) == []


def test_an_empty_folder_is_no_checkpoint(store, add_run):
    """An object store may list a folder for minutes after its last file was removed."""
    run_id = add_run().name
    names = names_of(uploaded_checkpoints(store, run_id))
    artifacts = Path(store.client.get_run(run_id).info.artifact_uri.removeprefix("file://")) / "checkpoints"
    (artifacts / "epoch-000009").mkdir()
    assert len(store.client.list_artifacts(run_id, "checkpoints")) == len(names) + 1
    assert names_of(uploaded_checkpoints(store, run_id)) == names


def test_nothing_is_removed_after_the_loss_of_the_lease(store, add_run):
    """The lease is checked directly before each removal."""
    run_id = add_run().name
    lease = leased(store, run_id)
    Lease(store, run_id, Holder(host="b", folder="/b")).take()
    with pytest.raises(LeaseLostError, match="was taken over by b at "):
        remove_checkpoints(store, lease, surplus_of(store, run_id))
    assert names_of(uploaded_checkpoints(store, run_id)) == epochs(1, 2, 3, 4, 5)


def test_a_store_that_removes_no_artifacts_is_reported(store, add_run, monkeypatch):
    """MLflow's base class of artifact stores, which some kinds leave as it is, does nothing and raises nothing."""
    monkeypatch.setattr(LocalArtifactRepository, "delete_artifacts", ArtifactRepository.delete_artifacts)
    run_id = add_run().name
    with pytest.raises(TrackingError) as refusal:
        remove_checkpoints(store, leased(store, run_id), surplus_of(store, run_id))
    assert str(refusal.value) == (
        f"The MLflow store {store.uri} does not remove artifacts: "
        f"the checkpoints of the run {run_id} that it need not keep are still there."
    )


@pytest.mark.slow
def test_a_server_removes_its_artifacts(small_folder, tmp_path):
    """Behind MLflow's server they are removed through it, from where it keeps them."""
    with mlflow_server(tmp_path) as (_, url):
        pipeline = Pipeline(small_folder, Settings(DCGAN_STATE=tmp_path / "state", MLFLOW_TRACKING_URI=url))
        dataset = pipeline.prepare()
        run, _ = pipeline.train(pipeline.configuration(dataset, epochs=3), dataset)
        client = MlflowClient(url)
        assert client.get_run(run.run_id).info.artifact_uri.startswith("mlflow-artifacts:")
        assert names_of(uploaded_checkpoints(pipeline.open().store, run.run_id)) == epochs(3)
        (stored,) = tmp_path.glob("artifacts/*/*/artifacts/checkpoints")
        assert [path.name for path in stored.iterdir()] == epochs(3)
        shutil.rmtree(run.folder)
        newest = run.newest_state(pipeline.open().store)
        assert newest is not None
        assert newest.epoch == 3
        client.delete_run(run.run_id)
        assert collect_garbage(f"sqlite:///{tmp_path / 'mlflow.db'}", url) == [run.run_id]
        assert list(tmp_path.glob("artifacts/*/*/artifacts")) == []
