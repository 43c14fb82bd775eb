"""The lease: of all machines that share an MLflow store, one trains a run, and who lost it touches it no more."""

import platform
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import pytest
from prefect.exceptions import Abort

from dcgan.checkpoint_files import load_checkpoint
from dcgan.errors import ConfigurationError, DataError, LeaseLostError
from tasks.run import Run, training_run
from tasks.settings import read_settings
from tasks.tracking import lease, runs
from tasks.tracking.epoch_log import EpochLog
from tasks.tracking.lease import FRESH_SECONDS, RENEWED, Holder
from tasks.tracking.store import Store

Begin = Callable[..., AbstractContextManager[Run]]


@pytest.fixture
def begin(pipeline, state, monkeypatch) -> Begin:
    """Return a function that begins a training on a machine, which is its own state folder; all share one store."""
    dataset = pipeline.prepare()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{state / 'mlflow.db'}")
    monkeypatch.setattr(tempfile, "tempdir", None)  # restored at the end: here trainings of one process overlap

    def begin(machine, resume="auto", flow_run=""):
        monkeypatch.setenv("DCGAN_STATE", str(state.parent / machine))
        monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__ID", flow_run)
        return training_run(pipeline.configuration(dataset), dataset, resume)

    return begin


@pytest.fixture
def left_by(pipeline, begin, state, monkeypatch):
    """Return a function that leaves the run of a process that was killed: its lease is not given back."""
    dataset = pipeline.prepare()

    def left_by(machine, age=0.0, renewed_ago=None):
        holder = Holder(host=platform.node(), folder=str(state.parent / machine), since=time.time() - age)
        tags = {} if renewed_ago is None else {RENEWED: f"{holder.token} {time.time() - renewed_ago:.0f}"}
        return runs.begin_run(store(), pipeline.configuration(dataset), dataset, {**holder.tags(), **tags})

    return left_by


def store() -> Store:
    return Store(read_settings())


def status(run_id: str) -> str:
    return runs.get_run(store(), run_id).info.status


def taken_over(run_id: str) -> str:
    return (
        rf"^The MLflow run {run_id} was taken over by {platform.node()} at [-0-9]+ [:0-9]+ UTC; "
        r"this process stops and records nothing more\.$"
    )


def test_a_run_that_is_held_on_another_machine_is_passed_over(begin):
    """`auto` begins a run of its own while another machine trains the same."""
    with begin("a") as first, begin("b") as second:
        assert second.run_id != first.run_id
    assert status(first.run_id) == status(second.run_id) == "FINISHED"


def test_a_run_that_was_given_back_goes_on_anywhere(begin):
    """After a failure another machine goes on at once: nothing is waited for."""
    with pytest.raises(DataError), begin("a") as first:
        raise DataError("The file x is bad.")
    with begin("b") as second:
        assert (second.run_id, second.resumed) == (first.run_id, True)


@pytest.mark.parametrize(
    ("machine", "left", "resumed"),
    [
        ("a", {}, True),  # the folder's lock says that the holder is dead
        ("b", {}, False),
        ("b", {"age": 1000, "renewed_ago": 1}, False),
        ("b", {"age": FRESH_SECONDS + 1}, True),
        ("b", {"age": 1000, "renewed_ago": FRESH_SECONDS + 1}, True),
        ("b", {"age": -30}, False),  # its clock goes ahead
    ],
)
def test_silence_tells_the_dead_from_the_living(begin, left_by, machine, left, resumed):
    """Elsewhere a killed training's run goes on when it has been silent for two minutes, on its own machine at once."""
    run_id = left_by("a", **left)
    with begin(machine) as run:
        assert run.resumed is resumed
        assert (run.run_id == run_id) is resumed


def test_resuming_a_run_that_is_held_elsewhere_is_refused(begin, state):
    """Asked for by its id, it is refused in a sentence that says who holds it since when."""
    with begin("a") as first:
        with pytest.raises(ConfigurationError) as refusal, begin("b", resume=first.run_id):
            pass
        assert not (read_settings().runs / first.run_id).exists()
        assert str(refusal.value).startswith(f"The run {first.run_id} was taken by {platform.node()} at ")
        assert str(refusal.value).endswith(
            f" UTC, in {state.parent / 'a'}, and is held since; expected one that no live process holds."
        )


def test_the_same_flow_run_takes_its_run_over(begin):
    """Started again while its predecessor lives, a flow run has one MLflow run, which the loser leaves as it is."""
    with ExitStack() as loser:
        first = loser.enter_context(begin("a", flow_run="f"))
        with begin("b", resume="never", flow_run="f") as second:
            assert (second.run_id, second.resumed) == (first.run_id, True)
            with pytest.raises(LeaseLostError, match=taken_over(first.run_id)):
                first.lease.require()
            with pytest.raises(Abort, match=taken_over(first.run_id)):  # which leaves the flow run's state alone
                loser.close()
            assert status(first.run_id) == "RUNNING"
            second.lease.require()
    assert status(first.run_id) == "FINISHED"


def test_who_lost_a_run_does_not_say_how_it_ended(begin, left_by):
    """Taken after a silence by another flow run, the loser stops with the sentence; its own failure is not recorded."""
    loser = begin("a", flow_run="f")
    first = loser.__enter__()
    store().client.set_tag(first.run_id, RENEWED, f"{first.lease._holder.token} 1")
    with begin("b", flow_run="g") as second:
        assert second.run_id == first.run_id
    failure = DataError("The file x is bad.")
    with pytest.raises(LeaseLostError, match=taken_over(first.run_id)):
        loser.__exit__(DataError, failure, None)
    run = runs.get_run(store(), first.run_id)
    assert run.info.status == "FINISHED"
    assert "mlflow.note.content" not in run.data.tags


def test_a_finished_run_of_the_same_flow_run_is_used(begin):
    """Declared dead after its end and started again, a flow run begins no second training."""
    with begin("a", flow_run="f") as first:
        pass
    with begin("b", flow_run="f") as second:
        assert (second.run_id, second.resumed) == (first.run_id, True)
    assert status(first.run_id) == "FINISHED"
    with begin("b", flow_run="g") as other:
        assert other.run_id != first.run_id


def test_the_loss_is_noticed_in_the_background(begin, monkeypatch):
    """A thread asks for the lease, so that the training loop hears of its loss without asking."""
    monkeypatch.setattr(lease, "RENEWAL_SECONDS", 0.01)
    with ExitStack() as loser:
        first = loser.enter_context(begin("a", flow_run="f"))
        first.lease.check()
        (first_thread,) = (each for each in threading.enumerate() if each.name == "lease")
        with begin("b", flow_run="f"):
            first_thread.join(60)
            with pytest.raises(LeaseLostError):
                first.lease.check()
            with pytest.raises(Abort):
                loser.close()


def test_nothing_is_recorded_after_the_loss(trained, trained_again):
    """An epoch is recorded only by the holder."""
    epochs = load_checkpoint(trained.run.folder / "states" / "epoch-000002")
    log = EpochLog(store(), trained_again.lease)
    lease.Lease(store(), trained_again.run_id, Holder(host="b", folder="/")).take()
    with pytest.raises(LeaseLostError, match="was taken over by b at "):
        log.deliver(epochs)
    assert runs.get_run(store(), trained_again.run_id).data.metrics == {}


def test_an_epoch_that_the_loser_recorded_last_is_not_doubled(trained, trained_again):
    """What a former holder was just recording when its run was taken is seen before the same epoch is recorded."""
    epochs = load_checkpoint(trained.run.folder / "states" / "epoch-000002")
    loser, winner = (EpochLog(store(), trained_again.lease) for _ in range(2))
    loser.deliver(epochs)
    winner.deliver(epochs)
    client = store().client
    assert len(client.list_artifacts(trained_again.run_id, "images")) == 6
    assert [each.step for each in client.get_metric_history(trained_again.run_id, "generator_loss")] == [1, 2]


def test_mlflow_away_costs_no_lease(begin, state):
    """A lease that cannot be renewed is still this process's when the store is back."""
    with begin("a") as run:
        database = state / "mlflow.db"
        whole = database.read_bytes()
        database.write_bytes(b"no database" * 1000)
        run.lease._try_to_write(time.time())
        run.lease.check()
        database.write_bytes(whole)
        run.lease.require()
    assert status(run.run_id) == "FINISHED"
