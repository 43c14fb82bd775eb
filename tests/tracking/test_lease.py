"""The lease: of all machines that share an MLflow store, one trains a run; a process that lost it stops recording."""

import json
import platform
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import pytest
from mlflow.exceptions import MlflowException
from prefect.exceptions import Abort

from dcgan.errors import ConfigurationError, DataError, LeaseLostError, TrackingError
from dcgan.training.checkpoint import load_checkpoint
from tasks.context import open_context
from tasks.settings import Settings
from tasks.training_run import TrainingRun, training_run
from tracking import lease, runs
from tracking.epochs import EpochLog
from tracking.lease import FRESH_SECONDS, Holder
from tracking.store import Store
from tracking.tags import LEASE, LEASE_RENEWED

Begin = Callable[..., AbstractContextManager[TrainingRun]]


@pytest.fixture
def store(pipeline) -> Store:
    """Return the store that all machines share."""
    return pipeline.open().store


@pytest.fixture
def begin(pipeline, state, monkeypatch) -> Begin:
    """Return a function that begins a training run on a machine, which is its own state folder; all share one store."""
    dataset = pipeline.prepare()
    monkeypatch.setattr(tempfile, "tempdir", None)  # restored at the end: here training runs of one process overlap

    def begin(machine, resume="auto", flow_run=""):
        settings = Settings(DCGAN_STATE=state.parent / machine, MLFLOW_TRACKING_URI=f"sqlite:///{state / 'mlflow.db'}")
        monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__ID", flow_run)
        return training_run(open_context(settings), pipeline.configuration(dataset), dataset.manifest, resume)

    return begin


@pytest.fixture
def left_by(pipeline, begin, state, store):
    """Return a function that leaves the run of a process that was killed: its lease is not released."""
    dataset = pipeline.prepare()

    def left_by(machine, age=0.0, renewed_ago=None, renewed_by=None):
        holder = Holder(host=platform.node(), folder=str(state.parent / machine), since=time.time() - age)
        renewal = f"{renewed_by or holder.token} {time.time() - (renewed_ago or 0):.0f}"
        tags = {} if renewed_ago is None else {LEASE_RENEWED: renewal}
        return runs.create_run(store, pipeline.configuration(dataset), dataset.manifest, {**holder.tags(), **tags})

    return left_by


def status(store: Store, run_id: str) -> str:
    return runs.get_run(store, run_id).info.status


def taken_over(run_id: str) -> str:
    return (
        rf"^The MLflow run {run_id} was taken over by {platform.node()} at [-0-9]+ [:0-9]+ UTC; "
        r"this process stops and records nothing more\.$"
    )


def test_a_run_that_another_machine_trains_is_skipped(begin, store):
    """`auto` creates a run of its own while another machine trains the same."""
    with begin("a") as first, begin("b") as second:
        assert second.run_id != first.run_id
    assert status(store, first.run_id) == status(store, second.run_id) == "FINISHED"


def test_a_released_run_resumes_anywhere(begin):
    """After a failure another machine resumes at once."""
    with pytest.raises(DataError), begin("a") as first:
        raise DataError("The file x is bad.")
    with begin("b") as second:
        assert (second.run_id, second.resumed) == (first.run_id, True)


@pytest.mark.parametrize(
    ("machine", "left", "resumed"),
    [
        ("a", {}, True),  # the folder's lock shows that the holder is dead
        ("b", {}, False),
        ("b", {"age": 1000, "renewed_ago": 1}, False),
        ("b", {"age": FRESH_SECONDS + 1}, True),
        ("b", {"age": 1000, "renewed_ago": FRESH_SECONDS + 1}, True),
        ("b", {"age": 1000, "renewed_ago": 1, "renewed_by": "its predecessor"}, True),
        ("b", {"age": -30}, False),  # its clock goes ahead
    ],
)
def test_a_stale_lease_shows_a_dead_holder(begin, left_by, machine, left, resumed):
    """Elsewhere a killed process's run resumes after two minutes without renewal, on its own machine at once."""
    run_id = left_by("a", **left)
    with begin(machine) as run:
        assert run.resumed is resumed
        assert (run.run_id == run_id) is resumed


def test_resuming_a_run_that_is_in_use_elsewhere_is_refused(begin, state):
    """Asked for by its id, it is refused in a sentence that names the process and its start."""
    with begin("a") as first:
        with pytest.raises(ConfigurationError) as refusal, begin("b", resume=first.run_id):
            pass
        assert not (state.parent / "b" / "runs" / first.run_id).exists()
        assert str(refusal.value).startswith(f"The run {first.run_id} is in use by {platform.node()} at ")
        assert str(refusal.value).endswith(f" UTC, in {state.parent / 'a'}; expected one that no live process uses.")


def test_the_same_flow_run_takes_its_run_over(begin, store):
    """Started again while its predecessor lives, a flow run has one MLflow run, which the loser leaves as it is."""
    with ExitStack() as loser:
        first = loser.enter_context(begin("a", flow_run="f"))
        with begin("b", resume="never", flow_run="f") as second:
            assert (second.run_id, second.resumed) == (first.run_id, True)
            with pytest.raises(LeaseLostError, match=taken_over(first.run_id)):
                first.lease.require()
            with pytest.raises(Abort, match=taken_over(first.run_id)):  # which leaves the flow run's state alone
                loser.close()
            assert status(store, first.run_id) == "RUNNING"
            second.lease.require()
    assert status(store, first.run_id) == "FINISHED"


def test_a_process_that_lost_its_run_does_not_record_how_it_ended(begin, store):
    """Taken by another flow run after a stale lease, the loser stops with the sentence; its failure is not recorded."""
    loser = begin("a", flow_run="f")
    first = loser.__enter__()
    token = json.loads(runs.get_run(store, first.run_id).data.tags[LEASE])["token"]
    store.client.set_tag(first.run_id, LEASE_RENEWED, f"{token} 1")
    with begin("b", flow_run="g") as second:
        assert second.run_id == first.run_id
    failure = DataError("The file x is bad.")
    with pytest.raises(LeaseLostError, match=taken_over(first.run_id)):
        loser.__exit__(DataError, failure, None)
    run = runs.get_run(store, first.run_id)
    assert run.info.status == "FINISHED"
    assert "mlflow.note.content" not in run.data.tags


def test_a_finished_run_of_the_same_flow_run_is_reused(begin, store):
    """Declared dead after its end and started again, a flow run does not train a second time."""
    with begin("a", flow_run="f") as first:
        pass
    with begin("b", flow_run="f") as second:
        assert (second.run_id, second.resumed) == (first.run_id, True)
    assert status(store, first.run_id) == "FINISHED"
    with begin("b", flow_run="g") as other:
        assert other.run_id != first.run_id


def test_the_loss_is_noticed_in_the_background(begin, monkeypatch):
    """A thread checks the lease, so that the training loop learns of its loss without a request."""
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


def monitors() -> list[threading.Thread]:
    """Return the threads in which MLflow records the machine's load."""
    return [thread for thread in threading.enumerate() if thread.name == "SystemMetricsMonitor"]


def test_the_machines_load_is_recorded_until_the_loss(begin, store):
    """MLflow's monitor of the machine ends with the training that lost its run."""
    with ExitStack() as loser:
        first = loser.enter_context(begin("a", flow_run="f"))
        with runs.system_metrics(store, first.run_id):
            assert len(monitors()) == 1
        with begin("b", flow_run="f"):
            with pytest.raises(LeaseLostError), runs.system_metrics(store, first.run_id):
                first.lease.require()
            assert monitors() == []
            with pytest.raises(Abort):
                loser.close()


def test_nothing_is_recorded_after_the_loss(trained, unregistered_run):
    """An epoch is recorded only by the holder."""
    store = trained.context.store
    epochs = load_checkpoint(trained.run.folder / "states" / "epoch-000002")
    log = EpochLog(store, unregistered_run.lease)
    lease.Lease(store, unregistered_run.run_id, Holder(host="b", folder="/")).take()
    with pytest.raises(LeaseLostError, match="was taken over by b at "):
        log.record(epochs)
    assert runs.get_run(store, unregistered_run.run_id).data.metrics == {}


def test_an_epoch_that_the_loser_recorded_last_is_not_duplicated(trained, unregistered_run):
    """What the previous holder was just recording when its run was taken is seen before the epoch is recorded."""
    store = trained.context.store
    epochs = load_checkpoint(trained.run.folder / "states" / "epoch-000002")
    loser, winner = (EpochLog(store, unregistered_run.lease) for _ in range(2))
    loser.record(epochs)
    winner.record(epochs)
    client = store.client
    assert len(client.list_artifacts(unregistered_run.run_id, "images")) == 6
    assert [each.step for each in client.get_metric_history(unregistered_run.run_id, "train/generator_loss")] == [1, 2]


def test_a_grid_whose_reply_is_lost_is_not_a_second_file(trained, unregistered_run, monkeypatch):
    """MLflow gives every grid a name of its own, so the files are listed again after a failure."""
    store, run_id = trained.context.store, unregistered_run.run_id
    epochs = load_checkpoint(trained.run.folder / "states" / "epoch-000002")
    log, log_image = EpochLog(store, unregistered_run.lease), store.client.log_image

    def lose_the_reply(*arguments, **named):
        log_image(*arguments, **named)
        raise MlflowException("The connection was lost.")

    monkeypatch.setattr(store.client, "log_image", lose_the_reply)
    for _ in range(3):  # the untrained generator's, and one of each epoch
        with pytest.raises(TrackingError):
            log.record(epochs)
    log.record(epochs)
    assert len(store.client.list_artifacts(run_id, "images")) == 6


@pytest.mark.slow
def test_a_renewal_that_is_under_way_does_not_outlive_the_release(begin, store, monkeypatch):
    """MLflow may take long to answer the last one; a run that has ended is free all the same."""
    under_way = threading.Event()

    def slow_tag_run(store, run_id, tags):
        if LEASE_RENEWED in tags and not tags[LEASE_RENEWED].endswith(" 0"):
            under_way.set()
            time.sleep(8)
        runs.tag_run(store, run_id, tags)

    monkeypatch.setattr(lease, "RENEWAL_SECONDS", 0.01)
    monkeypatch.setattr(lease, "tag_run", slow_tag_run)
    with begin("a") as run:
        assert under_way.wait(30)
    time.sleep(8)
    assert lease.live_holder(runs.get_run(store, run.run_id)) is None


def test_a_run_that_is_taken_while_its_predecessor_ends_is_lost(begin, store, state):
    """Started again, a flow run waits for its predecessor's end; if a third process takes the run, this one stops."""
    outcome = []

    def begin_again():
        try:
            with begin("a", flow_run="f"):
                outcome.append("begun")
        except (Abort, LeaseLostError) as error:
            outcome.append(str(error))

    with ExitStack() as predecessor:
        first = predecessor.enter_context(begin("a", flow_run="f"))
        held = runs.get_run(store, first.run_id).data.tags[LEASE]
        waiting = threading.Thread(target=begin_again)
        waiting.start()
        deadline = time.monotonic() + 30
        while runs.get_run(store, first.run_id).data.tags[LEASE] == held:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        lease.Lease(store, first.run_id, Holder(host="c", folder="/")).take()
        with pytest.raises((Abort, LeaseLostError)):
            predecessor.close()
        waiting.join()
    assert outcome != ["begun"]
    assert "was taken over by c at " in outcome[0]


def test_a_run_that_is_being_created_is_nobody_elses(begin, store, monkeypatch):
    """Between its creation and its lock, another process of the machine does not take it for an unfinished one."""
    create_run, created = runs.create_run, threading.Event()

    def slow_create_run(*arguments):
        run_id = create_run(*arguments)
        if not created.is_set():
            created.set()
            time.sleep(1)
        return run_id

    monkeypatch.setattr(runs, "create_run", slow_create_run)
    trained = []

    def begin_first():
        with begin("a") as run:
            trained.append(run.run_id)

    thread = threading.Thread(target=begin_first)
    thread.start()
    assert created.wait(30)
    with begin("a") as second:
        trained.append(second.run_id)
    thread.join()
    assert len(trained) == 2
    assert {status(store, run_id) for run_id in trained} == {"FINISHED"}


def test_an_outage_of_mlflow_does_not_end_the_lease(begin, state, store, monkeypatch):
    """A lease that cannot be renewed is still this process's when the store is back."""
    monkeypatch.setattr(lease, "RENEWAL_SECONDS", 0.01)
    with begin("a") as run:
        database = state / "mlflow.db"
        whole = database.read_bytes()
        database.write_bytes(b"no database" * 1000)
        time.sleep(0.2)  # a few renewals fail
        run.lease.check()
        database.write_bytes(whole)
        run.lease.require()
    assert status(store, run.run_id) == "FINISHED"


@pytest.mark.parametrize("written", ["", "someone", "{}", '{"host": 1}', "[" * 100])
def test_a_lease_that_names_no_holder_counts_as_none(begin, store, written, caplog):
    """Edited by hand, the tag neither stops a resumption nor the run that holds it."""
    with pytest.raises(DataError), begin("a") as first:
        raise DataError("The file x is bad.")
    runs.tag_run(store, first.run_id, {LEASE: written})
    with begin("b") as second:
        assert second.run_id == first.run_id
        runs.tag_run(store, first.run_id, {LEASE: written})
        second.lease.require()
    assert status(store, first.run_id) == "FINISHED"
    assert not written or "names no holder and is ignored" in caplog.text


@pytest.mark.parametrize("renewed", ["soon", "nan", "inf", "-1", "1e300", "{later}"])
def test_a_renewal_that_cannot_be_one_is_not_believed(begin, left_by, store, renewed):
    """No number, or a time that is more than a minute in the future: the holder counts as dead."""
    run_id = left_by("a", age=1000)
    token = Holder.model_validate_json(runs.get_run(store, run_id).data.tags[LEASE]).token
    runs.tag_run(store, run_id, {LEASE_RENEWED: f"{token} {renewed.format(later=time.time() + 90)}"})
    with begin("b") as run:
        assert run.run_id == run_id
