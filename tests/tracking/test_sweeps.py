"""A sweep's trials in Optuna's database: which of them a resumed sweep has still to run."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dcgan.errors import SweepError
from dcgan.sweep import SweepPlan
from tests.pipeline import Pipeline
from tracking.runs import end_run
from tracking.sweeps import Trial, Trials, open_sweep_run, trial_runs


def plan(trials: int | None = None, **changed: object) -> SweepPlan:
    """Return a plan: four points of a grid, or a search where something is searched."""
    grid = {} if "search" in changed else {"hidden_units": [None, 32]}
    parameters = {"recipe": "fast", "changes": {}, "seeds": [1, 2] if grid else [1], "grid": grid, "search": {}}
    return SweepPlan.of(**{**parameters, "trials": trials, "name": None, "source": "auto", **changed})


@pytest.fixture
def storage(tmp_path: Path) -> str:
    """Return the address of a database that does not exist yet."""
    return f"sqlite:///{tmp_path / 'optuna.db'}"


def test_a_grid_continues_where_it_was_interrupted(storage):
    """What finished is not repeated, what was running comes first under its number, and what failed is tried again."""
    first = Trials(storage, plan())
    done, failed, interrupted = itertools.islice(first.to_run(), 3)
    assert [trial.point for trial in (done, failed, interrupted)] == plan().points()[:3]
    first.finish(done, None)
    first.fail(failed)

    again = Trials(storage, plan())
    resumed, *others = again.to_run()
    assert resumed == interrupted
    assert [trial.point for trial in others] == [failed.point, plan().points()[3]]
    assert [trial.number for trial in others] == [3, 4]
    states = {number: state for number, (_, state) in again.states().items()}
    assert states == {0: "finished", 1: "failed", 2: "running", 3: "running", 4: "running"}


def test_a_finished_grid_has_nothing_to_run(storage):
    """Started again, it only shows what it found."""
    trials = Trials(storage, plan())
    for trial in trials.to_run():
        trials.finish(trial, 4.5)
    assert list(Trials(storage, plan()).to_run()) == []


def test_a_search_continues_with_other_points(storage):
    """It does not draw its first points again, learns from them, and has as many trials as it is asked for."""
    search = {"search": {"generator_learning_rate": "1e-4..4e-3:log", "batch_size": "32..128"}}
    first = Trials(storage, plan(3, **search))
    points = []
    for trial in first.to_run():
        points.append(trial.point)
        first.finish(trial, 10 - trial.number)
    assert len(points) == 3
    again = Trials(storage, plan(5, **search))
    more = [trial.point for trial in again.to_run()]
    assert len(more) == 2
    assert len({point["generator_learning_rate"] for point in points + more}) == 5
    assert all(1e-4 <= point["generator_learning_rate"] <= 4e-3 for point in points + more)
    assert all(isinstance(point["batch_size"], int) and point["seed"] == 1 for point in points + more)


def test_the_same_search_draws_the_same_points(tmp_path):
    """Its sampler is seeded by what it searches."""
    search = plan(2, search={"beta_1": "0..0.9"})
    drawn = [[t.point for t in Trials(f"sqlite:///{tmp_path / name}", search).to_run()] for name in ("a.db", "b.db")]
    assert drawn[0] == drawn[1]
    assert drawn[0][0] != drawn[0][1]


def test_a_trial_that_is_worse_than_the_median_is_hopeless(storage):
    """From the second epoch on, once four have finished; whoever looks again finds the same."""
    search = {"search": {"beta_1": "0..0.9"}}
    trials = Trials(storage, plan(7, **search))
    waiting = trials.to_run()
    for best in (4.0, 5.0, 6.0):
        trial = next(waiting)
        assert not trials.report(trial, {1: 50.0, 2: best})
        trials.finish(trial, best)
    early = next(waiting)
    assert not trials.report(early, {1: 90.0, 2: 80.0})
    trials.finish(early, 80.0)
    good, bad = next(waiting), next(waiting)
    assert not trials.report(bad, {1: 90.0})
    assert trials.report(bad, {1: 90.0, 2: 7.0})
    assert Trials(storage, plan(7, **search)).report(bad, {1: 90.0, 2: 7.0})
    assert not trials.report(good, {1: 90.0, 2: 4.5})
    trials.stop(bad)
    assert trials.states()[bad.number][1] == "stopped"
    assert [trial.number for trial in Trials(storage, plan(7, **search)).to_run()] == [good.number, 6]


def test_sweeps_do_not_see_each_other(storage):
    """They share a database, and nothing in it."""
    list(Trials(storage, plan()).to_run())
    other = Trials(storage, plan(name="other"))
    assert other.states() == {}


def test_an_unusable_database_is_one_sentence(tmp_path):
    """It is named without its password."""
    with pytest.raises(SweepError, match=r"The sweeps' database .*cannot be used: "):
        Trials(f"sqlite:///{tmp_path}/none/optuna.db", plan())
    with pytest.raises(SweepError, match=r"database postgresql://\*\*\*@nowhere/x cannot be used: "):
        Trials("postgresql://me:secret@nowhere/x", plan())


def test_the_finished_run_of_a_trial_counts(pipeline: Pipeline) -> None:
    """Of a trial that was trained more than once; else the newest does. Runs of other sweeps are not looked at."""
    store = pipeline.open().store
    parent, other = (open_sweep_run(store, plan(name=name), {}) for name in ("mine", "other"))
    begun = []
    for number, status, sweep in (
        ("0", "FINISHED", parent),
        ("0", "KILLED", parent),
        ("1", "FAILED", parent),
        ("1", "RUNNING", parent),
        ("0", "FINISHED", other),
        ("x", "FINISHED", parent),
    ):
        tags = {"mlflow.parentRunId": sweep, "dcgan.trial": number}
        run = store.client.create_run(store.experiment_id, tags=tags, start_time=len(begun))
        store.client.log_metric(run.info.run_id, "quality_epoch/best_frechet_distance", len(begun))
        if status != "RUNNING":
            store.client.set_terminated(run.info.run_id, status)
        begun.append(run.info.run_id)
    found = trial_runs(store, parent)
    assert {number: (run.run_id, run.finished) for number, run in found.items()} == {
        0: (begun[0], True),
        1: (begun[3], False),
    }
    assert found[0].distance == 0


def test_a_sweep_has_one_run(pipeline: Pipeline) -> None:
    """Started again it is the same run, with what varies as parameters."""
    store = pipeline.open().store
    first = open_sweep_run(store, plan(name="mine"), {})
    end_run(store, first, "FAILED", "No trial finished.")
    assert open_sweep_run(store, plan(name="mine"), {}) == first
    run = store.client.get_run(first)
    assert run.info.status == "RUNNING"
    assert run.data.params == {"recipe": "fast", "hidden_units": "None, 32", "seed": "1, 2"}
    assert "mlflow.note.content" not in run.data.tags


def test_two_machines_may_run_one_sweep(storage):
    """Both take up what an earlier process left; the first one's result of a trial stands."""
    for _ in itertools.islice(Trials(storage, plan()).to_run(), 1):
        pass
    first, second = Trials(storage, plan()), Trials(storage, plan())
    trial, same = next(first.to_run()), next(second.to_run())
    assert trial == same
    first.finish(trial, 4.5)
    assert second.report(trial, {1: 9.0}) is False
    second.fail(trial)
    assert second.states()[trial.number][1] == "finished"


def test_machines_that_run_one_sweep_share_its_points(storage):
    """What one has tried, the other does not try again."""
    trials = [Trials(storage, plan(seeds=list(range(6)), grid={})) for _ in range(2)]
    waiting = [each.to_run() for each in trials]
    ran = []
    for turn in itertools.cycle((0, 1)):
        if (trial := next(waiting[turn], None)) is None:
            break
        trials[turn].finish(trial, 1.0)
        ran.append(trial)
    assert [trial.point["seed"] for trial in ran] == list(range(6))
    assert [trial.number for trial in ran] == list(range(6))


def test_machines_that_begin_trials_at_once_get_their_own(storage):
    """Every point is tried, and every trial ends."""
    seeds = plan(seeds=list(range(12)), grid={})
    Trials(storage, seeds)

    def run(trials: Trials) -> list[Trial]:
        ran = []
        for trial in trials.to_run():
            ran.append(trial)
            trials.finish(trial, 1.0)
        return ran

    machines = [Trials(storage, seeds) for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        ran = [trial for trials in pool.map(run, machines) for trial in trials]
    numbers = [trial.number for trial in ran]
    assert sorted(set(numbers)) == sorted(machines[0].states())
    assert {trial.point["seed"] for trial in ran} == set(range(12))
    assert {state for _, state in machines[0].states().values()} == {"finished"}
