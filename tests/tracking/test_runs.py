"""Runs in the store: found among many, created once, and described by tags that anybody may edit."""

import pytest
from mlflow.exceptions import MlflowException

from dcgan.errors import TrackingError
from tracking import runs
from tracking.epochs import EpochLog
from tracking.lease import Holder, Lease
from tracking.tags import CREATION, FINGERPRINT, RECORDED_EPOCHS


@pytest.fixture
def store(pipeline):
    """Return an open store."""
    return pipeline.open().store


@pytest.fixture
def configuration(pipeline):
    """Return a configuration on the small dataset."""
    return pipeline.configuration(pipeline.prepare())


@pytest.fixture
def create(pipeline, store, configuration):
    """Return a function that creates a run of this configuration."""
    manifest = pipeline.prepare().manifest
    return lambda: runs.create_run(store, configuration, manifest, {})


@pytest.mark.slow
def test_the_unfinished_run_is_found_among_many(store, configuration, create):
    """It is older than 1,100 finished runs of its configuration, more than one page of MLflow's answers."""
    unfinished = create()
    tags = {FINGERPRINT: configuration.fingerprint()}
    for _ in range(1100):
        finished = store.client.create_run(store.experiment_id, tags=tags)
        store.client.set_terminated(finished.info.run_id)
    assert list(runs.find_unfinished(store, configuration)) == [unfinished]


def lost_reply(method):
    """Return a method whose reply is lost after it has done its work."""

    def call(*arguments, **keywords):
        method(*arguments, **keywords)
        raise MlflowException("the connection broke")

    return call


def done_twice(method):
    """Return a method that is repeated, as MLflow's client repeats a request."""

    def call(*arguments, **keywords):
        method(*arguments, **keywords)
        return method(*arguments, **keywords)

    return call


@pytest.mark.parametrize("disturbed", [lost_reply, done_twice])
def test_a_run_is_created_once(store, create, monkeypatch, disturbed):
    """Whether the only reply is lost or the request is repeated, there is one run, the one that is returned."""
    monkeypatch.setattr(store.client, "create_run", disturbed(store.client.create_run))
    run_id = create()
    (run,) = store.client.search_runs([store.experiment_id])
    assert (run.info.run_id, CREATION in run.data.tags) == (run_id, True)


def test_a_run_that_was_not_created_is_one_sentence(store, create, monkeypatch):
    """Where nothing was created, the store's failure is the error."""

    def refuse(*_, **__):
        raise MlflowException("the disk is full")

    monkeypatch.setattr(store.client, "create_run", refuse)
    with pytest.raises(TrackingError, match="failed: the disk is full"):
        create()


@pytest.mark.parametrize("written", ["", "two", "-1", "1.5", "²"])
def test_a_count_of_recorded_epochs_that_is_no_number_counts_as_none(store, create, written):
    """The tag was edited by hand: the log of epochs begins again, which adds nothing to what is there."""
    run_id = create()
    runs.tag_run(store, run_id, {RECORDED_EPOCHS: written})
    lease = Lease(store, run_id, Holder(host="a", folder="/a"))
    lease.take()
    assert EpochLog(store, lease).recorded == 0
