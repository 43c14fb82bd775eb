"""Runs by what a user calls them: an id, a name, or the number or alias of a version."""

import re

import pytest

from dcgan.errors import TrackingError
from tracking.comparison import EXPECTED, find_run, read_run
from tracking.tags import MODEL_NAME

SOURCE = "file:///nowhere"


@pytest.fixture
def store(pipeline):
    """Return an open store."""
    return pipeline.open().store


@pytest.fixture
def create(store):
    """Return a function that creates a run with a name and returns its id."""
    return lambda name: store.client.create_run(store.experiment_id, run_name=name).info.run_id


def refusal(store, text: str) -> str:
    with pytest.raises(TrackingError) as refused:
        find_run(store, text)
    return str(refused.value)


@pytest.mark.parametrize(
    "name", ["fast-seed0", "7", "champion", "it's", 'a "name"', "50 % of ü", "a' OR '1'='1", "back\\slash"]
)
def test_a_run_is_found_by_its_name(store, create, name):
    """Also by one that MLflow's filters or the registry could take for something else; so is it by its id."""
    run_id = create(name)
    create("another")
    assert find_run(store, name) == run_id
    assert find_run(store, run_id) == run_id
    assert read_run(store, run_id).name == name


def test_several_runs_of_one_name(store, create):
    """Their ids are listed, the newest first, but not a hundred of them; a deleted run does not count."""
    found = [create("fast-seed0") for _ in range(12)]
    text = refusal(store, "fast-seed0")
    assert text.startswith("12 runs are called fast-seed0: ")
    assert text.endswith(" and 2 more; expected the id of one of them.")
    assert sum(run_id in text for run_id in found) == 10
    for run_id in found[1:]:
        store.client.delete_run(run_id)
    assert find_run(store, "fast-seed0") == found[0]


def test_a_run_is_found_by_its_version(store, create):
    """By number and by alias; a run of that name, too, makes it ambiguous."""
    run_id = create("fast-seed0")
    store.client.create_registered_model(MODEL_NAME)
    store.client.create_model_version(MODEL_NAME, SOURCE, run_id)
    store.client.set_registered_model_alias(MODEL_NAME, "champion", "1")
    assert find_run(store, "1") == run_id
    assert find_run(store, "champion") == run_id
    other = create("champion")
    started = r"started \d{4}-\d\d-\d\d \d\d:\d\d UTC"
    assert re.fullmatch(
        rf"2 runs are called champion: {other}, running, {started}; {run_id}, running, {started}; "
        r"expected the id of one of them\.",
        refusal(store, "champion"),
    )


@pytest.mark.parametrize("text", ["fast", "99", "²", "9" * 40, "latest", "", "both ' and \"", "models:/x/1"])
def test_no_such_run(store, create, text):
    """One sentence that says what is accepted."""
    create("fast-seed0")
    assert refusal(store, text) == f"There is no run {text} in the MLflow store; expected {EXPECTED}."


def test_no_run_with_this_id(store):
    """What looks like an id is one."""
    text = "0123456789abcdef" * 2
    assert refusal(store, text) == f"There is no run {text} in the MLflow store; expected the id of a run."


def test_a_version_of_another_tool_has_no_run(store):
    """It is as if it did not exist."""
    store.client.create_registered_model(MODEL_NAME)
    store.client.create_model_version(MODEL_NAME, SOURCE)
    assert refusal(store, "1").startswith("There is no run 1 in the MLflow store; expected ")
