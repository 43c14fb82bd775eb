"""The beginning and end of a training run: which run it resumes, its lock, and what MLflow records afterwards."""

import shutil
import tempfile
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from dcgan.errors import ConfigurationError, DataError, TrackingError, UnavailableError
from dcgan.training.run_folder import RunFolder
from tasks.context import Context
from tasks.flow_run import choose_seed
from tasks.settings import Settings
from tasks.training_run import TrainingRun, training_run
from tests.checkpoints import checkpoint_after
from tests.faults.proxy import unreliable
from tests.pipeline import Pipeline
from tests.servers import mlflow_server
from tracking import runs
from tracking.epochs import EpochLog
from tracking.lease import Holder, Lease
from tracking.metrics import BEST_EPOCH, metric_name
from tracking.tags import RECORDED_EPOCHS


@pytest.fixture
def begin(pipeline):
    """Return a function that begins a training run and leaves it at once, by raising what it is given."""
    dataset, context = pipeline.prepare(), pipeline.open()
    configuration = pipeline.configuration(dataset)

    def leave(error=None, resume="auto", precision="float32", others=()):
        run = None
        own, *others = [
            configuration.model_copy(update={"recipe": configuration.recipe.changed({"precision": each})})
            for each in (precision, *others)
        ]
        try:
            with training_run(context, own, dataset.manifest, resume, others) as run:
                if error:
                    raise error
        except BaseException as raised:
            if raised is not error:
                raise
        return run

    return leave


@pytest.fixture
def client(pipeline):
    """Return MLflow's client of the store."""
    return pipeline.open().store.client


def status(client, run):
    return client.get_run(run.run_id).info.status


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, "FINISHED"),
        (DataError("The file x is bad."), "FAILED"),
        (RuntimeError("x"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
    ],
)
def test_mlflow_knows_how_it_ended(begin, client, error, expected):
    """The run is finished, failed or killed, as the body was."""
    assert status(client, begin(error)) == expected


def test_a_failure_is_noted_in_the_run(begin, client):
    """The sentence of a failure is the run's note."""
    run = begin(DataError("The file x is bad; expected a good one."))
    tags = client.get_run(run.run_id).data.tags
    assert tags["mlflow.note.content"] == "**Failed:** The file x is bad; expected a good one."


def test_auto_resumes_the_newest_unfinished(begin):
    """Of two unfinished runs the newer is resumed; a finished one is never touched."""
    begin(KeyboardInterrupt(), resume="never")
    newer = begin(KeyboardInterrupt(), resume="never")
    finished = begin()
    assert finished.run_id == newer.run_id
    again = begin(RuntimeError())
    assert again.run_id != newer.run_id
    assert begin(resume="never").resumed is False


def test_a_repetition_of_a_finished_run_is_announced(begin, log):
    """The same configuration on the same data trains the same weights again, which is hardly what was meant."""
    finished = begin()
    assert "has trained the same" not in log.text
    begin()
    assert f"The run {finished.run_id} has trained the same to its end; another seed would train" in log.text


def test_auto_skips_a_run_that_is_locked(begin):
    """A run that a live process has locked is left alone, and a new one is created."""
    locked = begin(KeyboardInterrupt())
    with RunFolder(locked.folder).lock():
        assert begin().run_id != locked.run_id


def test_resuming_a_locked_run_is_refused(begin):
    """Asked for by its id, a locked run is refused in a sentence."""
    locked = begin(KeyboardInterrupt())
    with RunFolder(locked.folder).lock(), pytest.raises(ConfigurationError) as refusal:
        begin(resume=locked.run_id)
    assert str(refusal.value) == f"The run {locked.run_id} is in use by another live process."


def test_resuming_an_unknown_run_is_refused(begin, pipeline):
    """An id that MLflow does not know is refused in a sentence, and leaves no folder."""
    with pytest.raises(TrackingError) as refusal:
        begin(resume="0" * 32)
    assert str(refusal.value) == f"There is no run {'0' * 32} in the MLflow store; expected the id of a run."
    assert not (pipeline.settings.runs / ("0" * 32)).exists()


def test_resuming_a_finished_run_is_refused(begin, client):
    """A finished run is refused in a sentence and stays finished."""
    finished = begin()
    with pytest.raises(TrackingError) as refusal:
        begin(resume=finished.run_id)
    assert str(refusal.value) == f"The run {finished.run_id} is finished; expected an unfinished one to resume."
    assert status(client, finished) == "FINISHED"


def test_a_seed_that_is_given_is_kept():
    """Zero is a seed like any other."""
    assert choose_seed(0) == 0


def test_resuming_a_run_of_another_configuration_is_refused(begin, pipeline, client):
    """The fields that differ are named, with their values there and here."""
    locked = begin(KeyboardInterrupt())
    dataset, context = pipeline.prepare(), pipeline.open()
    other = pipeline.configuration(dataset, seed=8, beta_1=0.9)
    with pytest.raises(TrackingError) as refusal, training_run(context, other, dataset.manifest, locked.run_id):
        pass
    expected = f"The run {locked.run_id} is of another configuration: beta_1 (0.0, here 0.9), seed (7, here 8)."
    assert str(refusal.value) == expected
    assert status(client, locked) == "KILLED"


def test_a_run_that_another_process_finishes_meanwhile_is_not_touched(begin, client, monkeypatch):
    """Listed as unfinished, but finished by the time its lock is free, a run stays finished; another is created."""
    finished = begin()
    monkeypatch.setattr(runs, "find_unfinished", lambda *_: [finished.run_id])
    assert begin(KeyboardInterrupt()).run_id != finished.run_id
    assert status(client, finished) == "FINISHED"


def test_a_run_killed_right_after_its_creation_is_completed(pipeline):
    """A run that has only been created gets its parameters and dataset when it is resumed."""
    dataset, context = pipeline.prepare(), pipeline.open()
    configuration, store = pipeline.configuration(dataset), context.store
    created = runs.create_run(store, configuration, dataset.manifest, {})
    with training_run(context, configuration, dataset.manifest, created) as run:
        assert run.resumed
    recorded = store.client.get_run(created)
    assert recorded.data.params["epochs"] == "2"
    assert len(recorded.inputs.dataset_inputs) == 2


def test_resuming_again_and_again_duplicates_nothing(begin, client):
    """However often a run is resumed, its parameters and datasets are there once."""
    first = begin(KeyboardInterrupt())
    assert begin(KeyboardInterrupt()).run_id == begin().run_id == first.run_id
    recorded = client.get_run(first.run_id)
    assert len(recorded.inputs.dataset_inputs) == 2


def test_a_broken_store_does_not_hide_the_failure(pipeline, state, log):
    """What is raised is why the training run failed, also when MLflow fails; that is a warning."""
    dataset, context = pipeline.prepare(), pipeline.open()

    def fail_without_a_store():
        with training_run(context, pipeline.configuration(dataset), dataset.manifest, "never"):
            (state / "mlflow.db").write_bytes(b"no database" * 1000)
            raise DataError("The file x is bad.")

    with pytest.raises(DataError, match=r"^The file x is bad\.$"):
        fail_without_a_store()
    assert any("is not marked FAILED: The MLflow store" in record.getMessage() for record in log.records)


def test_temporary_files_are_made_in_the_run_and_removed_with_it(pipeline):
    """While it trains, a process makes every temporary file in the run's folder, where the next process removes it."""
    dataset, context = pipeline.prepare(), pipeline.open()
    before = tempfile.gettempdir()
    with training_run(context, pipeline.configuration(dataset), dataset.manifest, "never") as run:
        made = Path(tempfile.mkdtemp())
        assert run.folder in made.parents
    assert tempfile.gettempdir() == before
    assert not made.exists()


@pytest.fixture
def finish(pipeline):
    """Return a function that ends a training run of so many epochs, of which the second was the best."""
    context, dataset = pipeline.open(), pipeline.prepare()
    configuration = pipeline.configuration(dataset)

    def finish(epochs, error=None, **settings):
        changed = Context(context.settings.model_copy(update=settings), context.store)
        with (
            suppress(type(error)) if error else nullcontext(),
            training_run(changed, configuration, dataset.manifest, "auto") as run,
        ):
            folder, log = RunFolder(run.folder), EpochLog(context.store, run.lease)
            for epoch in range(1, epochs + 1):
                folder.save(checkpoint_after(epoch, configuration))
                log.upload_checkpoint(folder.states()[0])
            context.store.client.log_metric(run.run_id, metric_name(BEST_EPOCH), 2, step=0)
            if error:
                raise error
        return run

    return finish


def kept(client, run):
    """Return the names of a run's checkpoints in MLflow, and of its states on this machine."""
    uploaded = [Path(file.path).name for file in client.list_artifacts(run.run_id, "checkpoints")]
    return uploaded, sorted(path.name for path in (run.folder / "states").iterdir())


@pytest.mark.parametrize(
    ("keep_checkpoints", "uploaded", "states"), [(1, [2, 4], [4]), (2, [2, 3, 4], [3, 4]), (None, [1, 2, 3, 4], [3, 4])]
)
def test_a_finished_run_keeps_its_newest_and_its_best(finish, client, keep_checkpoints, uploaded, states):
    """As many of the newest as the settings say; both MLflow and this machine lose the others."""
    run = finish(4, keep_checkpoints=keep_checkpoints)
    expected = tuple([f"epoch-{epoch:06d}" for epoch in epochs] for epochs in (uploaded, states))
    assert kept(client, run) == expected
    assert status(client, run) == "FINISHED"


@pytest.mark.parametrize("error", [DataError("The file x is bad."), KeyboardInterrupt()])
def test_an_unfinished_run_keeps_everything(finish, client, error):
    """One that failed or was interrupted after its epochs has all of its checkpoints to resume from."""
    run = finish(3, error=error)
    assert status(client, run) != "FINISHED"
    assert kept(client, run) == ([f"epoch-{epoch:06d}" for epoch in (1, 2, 3)], ["epoch-000002", "epoch-000003"])


@pytest.mark.parametrize("killed", ["before", "within", "after"])
def test_killed_while_checkpoints_are_removed(finish, client, monkeypatch, killed):
    """The run is still unfinished, has its newest checkpoint, and is resumed, which removes the rest."""
    original, calls = LocalArtifactRepository.delete_artifacts, []

    def deadly(repository, path):
        calls.append(path)
        if killed == "within":
            (Path(repository.artifact_dir) / path / "arrays.npz").unlink()
        if killed == "after" or len(calls) < 2:
            original(repository, path)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LocalArtifactRepository, "delete_artifacts", deadly)
        with pytest.raises(KeyboardInterrupt):
            finish(5)
    (interrupted,) = client.search_runs([client.get_experiment_by_name("dcgan").experiment_id])
    assert interrupted.info.status == "KILLED"
    assert calls == ["checkpoints/epoch-000001", "checkpoints/epoch-000003"]
    run = finish(0)
    assert (run.run_id, run.resumed) == (interrupted.info.run_id, True)
    assert kept(client, run) == (["epoch-000002", "epoch-000005"], ["epoch-000005"])
    assert status(client, run) == "FINISHED"


def test_checkpoints_that_cannot_be_removed_fail_no_run(finish, client, monkeypatch, log):
    """A store that refuses is a warning that names dcgan prune."""

    def refuse(*_):
        raise MlflowException("permission denied")

    monkeypatch.setattr(LocalArtifactRepository, "delete_artifacts", refuse)
    run = finish(3)
    assert status(client, run) == "FINISHED"
    assert len(kept(client, run)[0]) == 3
    (warning,) = (record.getMessage() for record in log.records if "dcgan prune" in record.getMessage())
    assert warning.endswith("failed: permission denied.")


@pytest.mark.parametrize("by", ["search", "id"])
def test_a_run_keeps_the_precision_that_it_began_with(begin, by):
    """Where auto means another precision than on the machine that began the run, its own is trained on."""
    begun = begin(KeyboardInterrupt(), precision="mixed_bfloat16")
    resume = "auto" if by == "search" else begun.run_id
    resumed = begin(resume=resume, precision="float32", others=["mixed_bfloat16"])
    assert (resumed.run_id, resumed.resumed) == (begun.run_id, True)
    assert resumed.configuration.recipe.precision == "mixed_bfloat16"


def test_a_precision_that_was_asked_for_begins_a_run_of_its_own(begin):
    """Without the other meaning of auto, an unfinished run in another precision is another configuration."""
    begun = begin(KeyboardInterrupt(), precision="mixed_bfloat16")
    assert begin().run_id != begun.run_id
    with pytest.raises(TrackingError, match=r"of another configuration: precision \(mixed_bfloat16, here float32\)"):
        begin(resume=begun.run_id)


@pytest.mark.parametrize(("recorded", "expected"), [("4", 4), ("2", 2)])
def test_the_newest_state_may_be_in_mlflow(finish, begin, client, pipeline, recorded, expected):
    """Another machine has trained on since; what this one has already is not downloaded."""
    run = finish(4, error=KeyboardInterrupt())
    folder = RunFolder(run.folder)
    shutil.rmtree(run.folder / "states")
    folder.save(checkpoint_after(2, run.configuration))
    client.set_tag(run.run_id, RECORDED_EPOCHS, recorded)
    store = pipeline.open().store
    newest = TrainingRun(**{**vars(run), "lease": taken(store, run.run_id)}).newest_state(store)
    assert newest.epoch == expected
    assert folder.states()[0].name == f"epoch-{expected:06d}"


def taken(store, run_id):
    """Return a lease on a run."""
    lease = Lease(store, run_id, Holder(host="a", folder="/a"))
    lease.take()
    return lease


@pytest.mark.slow
def test_a_server_that_goes_away_is_no_damaged_checkpoint(small_folder, tmp_path):
    """A checkpoint that cannot be downloaded now is not skipped, or what it has would be trained again."""
    with mlflow_server(tmp_path) as (server, url):
        pipeline = Pipeline(small_folder, Settings(DCGAN_STATE=tmp_path / "state", MLFLOW_TRACKING_URI=url))
        dataset = pipeline.prepare()
        run, _ = pipeline.train(pipeline.configuration(dataset), dataset)
        with runs.downloaded_checkpoints(pipeline.open().store, run.run_id, after="") as downloaded:
            server.stop()
            with pytest.raises(UnavailableError):
                next(downloaded)


@pytest.mark.slow
def test_a_lost_reply_to_the_end_is_no_failure(small_folder, tmp_path):
    """A run whose end was recorded, but whose replies were lost, is FINISHED."""
    update = "POST /api/2.0/mlflow/runs/update"
    with mlflow_server(tmp_path) as (_, url), unreliable(url, "unanswered", 2, {update}) as (proxy, address):
        pipeline = Pipeline(small_folder, Settings(DCGAN_STATE=tmp_path / "state", MLFLOW_TRACKING_URI=address))
        dataset, context = pipeline.prepare(), pipeline.open()
        with training_run(context, pipeline.configuration(dataset), dataset.manifest, "auto") as run:
            assert proxy.asked[update] == 0
        assert proxy.asked[update] == 3
        assert status(context.store.client, run) == "FINISHED"


def test_a_users_description_outlives_a_failure(begin, client):
    """What somebody wrote is neither replaced by the sentence of a failure nor removed when the run is resumed."""
    written = "Compare with last week's."
    run = begin(KeyboardInterrupt())
    client.set_tag(run.run_id, "mlflow.note.content", written)
    for error in (DataError("The file x is bad; expected a good one."), None):
        assert begin(error).run_id == run.run_id
        assert client.get_run(run.run_id).data.tags["mlflow.note.content"] == written
