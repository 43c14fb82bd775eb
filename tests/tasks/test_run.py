"""A training's beginning and end: which run it goes on with, who holds it, and what MLflow says afterwards."""

import tempfile
from pathlib import Path

import pytest

from dcgan.errors import ConfigurationError, DataError, TrackingError
from dcgan.run_folder import RunFolder
from tasks.flow_run import choose_seed
from tasks.run import training_run
from tasks.settings import read_settings
from tasks.tracking import runs
from tasks.tracking.store import Store


@pytest.fixture
def begin(pipeline, state):
    """Return a function that begins a training and leaves it at once, by raising what it is given."""
    assert not state.exists()
    dataset = pipeline.prepare()
    configuration = pipeline.configuration(dataset)

    def leave(error=None, resume="auto"):
        run = None
        try:
            with training_run(configuration, dataset, resume) as run:
                if error:
                    raise error
        except BaseException as raised:
            if raised is not error:
                raise
        return run

    return leave


def status(run):
    return Store(read_settings()).client.get_run(run.run_id).info.status


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, "FINISHED"),
        (DataError("The file x is bad."), "FAILED"),
        (RuntimeError("x"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
    ],
)
def test_mlflow_knows_how_it_ended(begin, error, expected):
    """The run is finished, failed or killed, as the body was."""
    assert status(begin(error)) == expected


def test_a_failure_is_told_in_the_run(begin):
    """The sentence of a failure is the run's note."""
    run = begin(DataError("The file x is bad; expected a good one."))
    tags = Store(read_settings()).client.get_run(run.run_id).data.tags
    assert tags["mlflow.note.content"] == "The file x is bad; expected a good one."


def test_auto_goes_on_with_the_newest_unfinished(begin):
    """Of two unfinished runs the newer goes on; a finished one is never touched."""
    begin(KeyboardInterrupt(), resume="never")
    newer = begin(KeyboardInterrupt(), resume="never")
    finished = begin()
    assert finished.run_id == newer.run_id
    again = begin(RuntimeError())
    assert again.run_id != newer.run_id
    assert begin(resume="never").resumed is False


def test_auto_passes_over_a_run_that_is_held(begin):
    """A run that a live process holds is left alone, and a new one begins."""
    held = begin(KeyboardInterrupt())
    with RunFolder(held.folder).held():
        assert begin().run_id != held.run_id


def test_resuming_a_held_run_is_refused(begin):
    """Asked for by its id, a held run is refused in a sentence."""
    held = begin(KeyboardInterrupt())
    with RunFolder(held.folder).held(), pytest.raises(ConfigurationError) as refusal:
        begin(resume=held.run_id)
    assert str(refusal.value) == f"The run {held.run_id} is held by another live process."


def test_resuming_an_unknown_run_is_refused(begin):
    """An id that MLflow does not know is refused in a sentence, and leaves no folder."""
    with pytest.raises(TrackingError) as refusal:
        begin(resume="0" * 32)
    assert str(refusal.value) == f"There is no run {'0' * 32} in the MLflow store; expected the id of a run."
    assert not (read_settings().runs / ("0" * 32)).exists()


def test_resuming_a_finished_run_is_refused(begin):
    """A finished run is refused in a sentence and stays finished."""
    finished = begin()
    with pytest.raises(TrackingError) as refusal:
        begin(resume=finished.run_id)
    assert str(refusal.value) == f"The run {finished.run_id} is finished; expected an unfinished one to resume."
    assert status(finished) == "FINISHED"


def test_a_seed_that_is_given_is_kept():
    """Zero is a seed like any other."""
    assert choose_seed(0) == 0


def test_resuming_a_run_of_another_configuration_is_refused(begin, pipeline):
    """The fields that differ are named, with their values there and here."""
    held = begin(KeyboardInterrupt())
    dataset = pipeline.prepare()
    other = pipeline.configuration(dataset, seed=8, beta_1=0.9)
    with pytest.raises(TrackingError) as refusal, training_run(other, dataset, held.run_id):
        pass
    expected = f"The run {held.run_id} is of another configuration: beta_1 (0.5, here 0.9), seed (7, here 8)."
    assert str(refusal.value) == expected
    assert status(held) == "KILLED"


def test_a_run_that_its_holder_finishes_meanwhile_is_not_touched(begin, monkeypatch):
    """Listed as unfinished, but finished by the time its lock is free, a run stays finished, and another begins."""
    finished = begin()
    monkeypatch.setattr(runs, "find_unfinished", lambda *_: [finished.run_id])
    assert begin(KeyboardInterrupt()).run_id != finished.run_id
    assert status(finished) == "FINISHED"


def test_a_run_killed_at_its_very_beginning_is_made_whole(pipeline, state):
    """Of a run that has only been created, parameters and data set are there as soon as it goes on."""
    dataset = pipeline.prepare()
    configuration = pipeline.configuration(dataset)
    store = Store(read_settings())
    created = runs.begin_run(store, configuration, dataset, {})
    with training_run(configuration, dataset, created) as run:
        assert run.resumed
    recorded = store.client.get_run(created)
    assert recorded.data.params["epochs"] == "2"
    assert len(recorded.inputs.dataset_inputs) == 2


def test_going_on_again_and_again_doubles_nothing(begin):
    """However often a run goes on, its parameters and data sets are there once."""
    first = begin(KeyboardInterrupt())
    assert begin(KeyboardInterrupt()).run_id == begin().run_id == first.run_id
    recorded = Store(read_settings()).client.get_run(first.run_id)
    assert len(recorded.inputs.dataset_inputs) == 2


def test_a_broken_store_does_not_hide_the_failure(pipeline, state, log):
    """What is raised is why the training failed, also when MLflow cannot be told; that is a warning."""
    dataset = pipeline.prepare()

    def fail_without_a_store():
        with training_run(pipeline.configuration(dataset), dataset, "never"):
            (state / "mlflow.db").write_bytes(b"no database" * 1000)
            raise DataError("The file x is bad.")

    with pytest.raises(DataError, match=r"^The file x is bad\.$"):
        fail_without_a_store()
    assert any("is not marked FAILED: The MLflow store" in record.getMessage() for record in log.records)


def test_temporary_files_lie_in_the_run_and_go_with_it(pipeline, state):
    """While a run is held every temporary file is made in its folder, so that nothing is left of a killed process."""
    dataset = pipeline.prepare()
    before = tempfile.gettempdir()
    with training_run(pipeline.configuration(dataset), dataset, "never") as run:
        made = Path(tempfile.mkdtemp())
        assert run.folder in made.parents
    assert tempfile.gettempdir() == before
    assert not made.exists()
