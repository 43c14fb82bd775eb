"""A sweep's lock and its outcome in MLflow."""

from contextlib import suppress

import pytest

from dcgan.errors import ConfigurationError, SweepError
from dcgan.sweep import SweepPlan
from tasks.sweep import sweep
from tests.pipeline import Pipeline

PLAN = SweepPlan.of(
    recipe="smoke", changes={}, seeds=[1, 2], grid={}, search={}, trials=None, name="twice", source="auto"
)


def test_the_same_sweep_runs_once(pipeline: Pipeline) -> None:
    """A second process is refused in a sentence, and the first one's run is left alone."""
    context = pipeline.open()
    with suppress(SweepError), sweep(context, PLAN, {}) as first:
        with (
            pytest.raises(ConfigurationError, match=r"The sweep twice-\w+ is run by another process"),
            sweep(context, PLAN, {}),
        ):
            raise AssertionError("it began")
        assert context.store.client.get_run(first.run_id).info.status == "RUNNING"
        raise SweepError("No trial finished.")
    run = context.store.client.get_run(first.run_id)
    assert run.info.status == "FAILED"
    assert "No trial finished." in run.data.tags["mlflow.note.content"]


def test_an_interrupted_sweep_is_killed_in_mlflow(pipeline: Pipeline) -> None:
    """Ctrl-C marks its run, which the next start makes RUNNING again."""
    context = pipeline.open()
    with pytest.raises(KeyboardInterrupt), sweep(context, PLAN, {}) as first:
        raise KeyboardInterrupt
    assert context.store.client.get_run(first.run_id).info.status == "KILLED"
    with sweep(context, PLAN, {}) as second:
        assert second.run_id == first.run_id
        assert context.store.client.get_run(second.run_id).info.status == "RUNNING"


def test_a_trial_is_trained_with_its_point(pipeline: Pipeline) -> None:
    """Its flow run has the sweep's parameters, its own seed and hyperparameters, and tags that say whose it is."""
    plan = SweepPlan.of(
        recipe="smoke",
        changes={"epochs": 1},
        seeds=[5],
        grid={"batch_size": [8, 16]},
        search={},
        trials=None,
        name=None,
        source="auto",
    )
    with suppress(SweepError), sweep(pipeline.open(), plan, {"recipe": "smoke", "device": "cpu"}) as this:
        first, second = this.trials.to_run()
        assert this.parameters_of(first) == {
            "recipe": "smoke",
            "device": "cpu",
            "seed": 5,
            "hyperparameters": {"epochs": 1, "batch_size": 8},
        }
        assert this.tags_of(second) == [f"mlflow.parentRunId={this.run_id}", "dcgan.trial=1"]
        assert this.name_of(second) == f"{plan.title}-trial-1"
