"""The sweep as a flow and as a command: what it refuses, and three trials of which the second is interrupted."""

import csv
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from imageio.v3 import imread
from mlflow.entities import Run
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterTags,
)
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Running

from dcgan.errors import SweepError
from flows.cli import main
from flows.sweep import check, dcgan_sweep
from flows.train import dcgan
from tasks.context import open_context
from tasks.settings import Settings
from tasks.sweep import OnWorkers, sweep
from tests.service_stack import CHECKOUT
from tracking.store import Store

PATIENCE_SECONDS = 200.0
EPOCHS = 4


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--seeds", "1,x"],
            "--seeds: input should be a valid integer, unable to parse string as an integer, not 'x'.",
        ),
        (["--seeds", "0,-1"], "--seeds: input should be greater than or equal to 0, not '-1'."),
        (["--seeds", "3"], "Nothing varies; expected several --seeds, a --grid or a --search."),
        (["--grid", "batchsize=3"], "There is no hyperparameter 'batchsize'; did you mean batch_size?"),
        (["--grid", "batch_size=64,0"], "--grid batch_size: input should be greater than 0, not '0'."),
        (["--grid", "batch_size"], "--grid: 'batch_size'; expected NAME=VALUE, as in --grid batch_size=64,128."),
        (["--grid", "epochs=1,2", "--epochs", "3"], "epochs is given twice, as one value and as several; expected one"),
        (["--search", "beta_1"], "--search: 'beta_1'; expected NAME=VALUE, as in --search beta_1=0.3..0.9."),
        (["--search", "beta1=0.3..0.9"], "There is no hyperparameter 'beta1'; did you mean beta_1?"),
        (["--search", "beta_1=0..0.9", "--recipe", "smoke"], "The recipe smoke is never evaluated, so a search has"),
        (["--seeds", "1,2", "--trials", "3"], "--trials goes with --search"),
        (["--seeds", "1,2", "--parallel", "2"], "--parallel goes with --deployment: in this process, trials run one"),
        (
            ["--seeds", "1,2", "--deployment", "dcgan/train"],
            "The deployment dcgan/train needs Prefect's server and its",
        ),
        (["--seeds", "1,2", "--deployment", "train"], "--deployment: expected a deployment of the"),
        (["--seeds", "1,2", "--name", "a/b"], "--name: expected up to 64 letters, digits, "),
    ],
)
def test_bad_arguments_are_one_sentence(arguments, sentence, state, error_line):
    """They exit with 2, and nothing is begun."""
    with temporary_settings(restore_defaults={PREFECT_API_URL}):  # the server of an earlier module's tests still runs
        assert main(["sweep", *arguments]) == 2
    assert error_line().startswith(sentence)
    assert not state.exists()


def test_a_deployment_that_does_not_exist_is_one_sentence(prefect_server, state, error_line):
    """Nothing is recorded for a sweep whose trials nobody could run."""
    assert main(["sweep", "--seeds", "1,2", "--deployment", "dcgan/nowhere"]) == 1
    expected = "Prefect's server has no deployment dcgan/nowhere; expected one that 'make deploy' creates, such as "
    assert error_line() == f"{expected}dcgan/train."
    assert not (state / "mlflow.db").exists()
    assert not (state / "sweeps").exists()


def test_a_sweep_fails_when_every_trial_does(prefect_server, state, tmp_path):
    """Each trial is recorded as failed, the others are tried, and the sweep's run in MLflow says why it failed."""
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(
        SweepError, match=r"No trial of the sweep smoke-\w+ finished: 0 of 2 trials finished, 2 failed\."
    ):
        dcgan_sweep(recipe="smoke", seeds=[1, 2], source=str(empty))
    (run,) = runs(open_store())
    assert run.info.status == "FAILED"
    assert "2 failed" in run.data.tags["mlflow.note.content"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_sweep_resumes(prefect_server, state, small_folder, tmp_path, capsys):
    """Killed within its second trial, it resumes that one, repeats nothing, and shows the three below one run."""
    arguments = ["sweep", "--recipe", "smoke", "--set", "max_images=128", "--set", f"epochs={EPOCHS}", "--seeds=3,4,5"]
    arguments += ["--source", str(small_folder), "--device", "cpu"]
    command = [sys.executable, "-m", "flows.cli", *arguments]
    process = subprocess.Popen(
        command, cwd=CHECKOUT, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, stderr=subprocess.DEVNULL
    )
    first, second = wait_for_an_epoch_of_the_second_trial(state, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = open_store().client.get_run(first.info.run_id).to_dictionary()

    assert main([*arguments, "--summary", str(tmp_path / "summary.json")]) == 0
    store = open_store()
    trials = sorted(trial_runs_of(store), key=lambda run: int(run.data.tags["dcgan.trial"]))
    assert [run.info.status for run in trials] == ["FINISHED"] * 3
    assert [run.data.params["seed"] for run in trials] == ["3", "4", "5"]
    assert [run.info.run_id for run in trials[:2]] == [first.info.run_id, second.info.run_id]
    assert trials[0].to_dictionary() == before
    for run in trials:
        steps = [metric.step for metric in store.client.get_metric_history(run.info.run_id, "train/generator_loss")]
        assert steps == [1, 2, 3, 4]
    (parent,) = [run for run in runs(store) if run not in trials and "dcgan.sweep" in run.data.tags]
    assert parent.info.status == "FINISHED"
    assert (
        f"![trials](get-artifact?path=sweep%2Ftrials.png&run_uuid={parent.info.run_id})"
        in (parent.data.tags["mlflow.note.content"])
    )
    assert [run.info.run_name for run in trials] == [f"smoke-seed{3 + number}-trial{number}" for number in range(3)]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    table = list(csv.DictReader(artifact(store, parent, "sweep/trials.csv", tmp_path).read_text().splitlines()))
    assert [(row["trial"], row["state"], row["seed"], row["run_id"]) for row in table] == [
        (str(number), "finished", str(3 + number), run.info.run_id) for number, run in enumerate(trials)
    ]
    assert "3 of 3 trials finished." in artifact(store, parent, "sweep/trials.md", tmp_path).read_text()
    assert imread(artifact(store, parent, "sweep/trials.png", tmp_path)).shape[0] > 200
    shown = prefect_artifact(parent.data.tags["prefect.flow_run_id"])
    assert "3 of 3 trials finished." in shown
    assert "data:image/png;base64," in shown

    runs_before = len(runs(store))
    capsys.readouterr()
    assert main(arguments) == 0  # everything is done: nothing is trained
    assert len(runs(store)) == runs_before
    header, *rows = capsys.readouterr().out.splitlines()[:4]
    assert header.split("  ")[-1].strip() == "last generator loss"  # smoke is not evaluated
    assert [row.split()[-1] for row in rows] == [f"{float(row['generator_loss']):.4g}" for row in table]


def test_a_trial_that_has_ended_is_not_stopped(prefect_server, state):
    """It ended by itself before it was to be stopped for being worse, so its result counts."""
    plan = check(recipe="smoke", seeds=[1, 2])
    with (
        get_client(sync_client=True) as client,
        suppress(SweepError),
        sweep(open_context(Settings.read()), plan, {}) as this,
    ):
        (trial, _) = this.trials.to_run()
        flow_id = client.create_flow_from_name("dcgan")
        client.create_deployment(flow_id, "ended")
        runner = OnWorkers("dcgan/ended")
        flow_run = client.create_flow_run(dcgan, tags=this.tags_of(trial), state=Running())
        assert not runner.advance(this, trial)
        client.set_flow_run_state(flow_run.id, Completed())
        assert not runner.stop(trial)
        assert client.read_flow_run(flow_run.id).state.is_completed()
        assert runner.advance(this, trial)


def test_a_deployment_that_refuses_a_trial_ends_the_sweep(prefect_server, state):
    """One that is older than the checkout does not know the parameters: Prefect's answer, not a wait for ever."""
    plan = check(recipe="smoke", seeds=[1, 2])
    schema = {"type": "object", "properties": {"recipe": {"type": "string", "enum": ["fast"]}}}
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow_from_name("dcgan")
        client.create_deployment(flow_id, "older", parameter_openapi_schema=schema, enforce_parameter_schema=True)
    with (
        pytest.raises(SweepError, match=r"^Prefect's server refuses trial 0 with HTTP 4\d\d: .*'smoke' is not one of"),
        sweep(open_context(Settings.read()), plan, {"recipe": "smoke"}) as this,
    ):
        OnWorkers("dcgan/older").advance(this, next(iter(this.trials.to_run())))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_trial_has_the_weights_of_its_own_training_run(prefect_server, state, small_folder):
    """Trained alone with the same seed and hyperparameters, its losses are the same: a sweep changes nothing else."""
    alone = {"recipe": "smoke", "epochs": 1, "hyperparameters": {"batch_size": 32, "max_images": 64}, "seed": 2}
    summary = dcgan(**alone, source=str(small_folder), device="cpu")
    sweep_summary = dcgan_sweep(
        recipe="smoke",
        epochs=1,
        hyperparameters={"max_images": 64},
        grid={"batch_size": [16, 32]},
        seeds=[2],
        source=str(small_folder),
        device="cpu",
    )
    assert [trial.point for trial in sweep_summary.trials] == [
        {"batch_size": 16, "seed": 2},
        {"batch_size": 32, "seed": 2},
    ]
    losses = [trial.generator_loss for trial in sweep_summary.trials]
    assert losses[1] == summary.metrics["generator_loss"]
    assert losses[0] != losses[1]
    with get_client(sync_client=True) as client:
        tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=[f"mlflow.parentRunId={sweep_summary.run_id}"]))
        assert len(client.read_flow_runs(flow_run_filter=tagged)) == 2


def open_store() -> Store:
    """Return the MLflow store of this process's settings."""
    return open_context(Settings.read()).store


def runs(store: Store) -> list[Run]:
    """Return every run of the store."""
    return list(store.client.search_runs([store.experiment_id]))


def trial_runs_of(store: Store) -> list[Run]:
    """Return the runs that are a trial's."""
    return [run for run in runs(store) if "dcgan.trial" in run.data.tags]


def wait_for_an_epoch_of_the_second_trial(state: Path, process: "subprocess.Popen[bytes]") -> tuple[Run, Run]:
    """Return the runs of the first two trials as soon as the second has recorded its first epoch."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None
        if (state / "mlflow.db").exists():
            trials = {run.data.tags["dcgan.trial"]: run for run in trial_runs_of(open_store())}
            if "1" in trials and "dcgan.recorded_epochs" in trials["1"].data.tags:
                assert trials["1"].info.status == "RUNNING"
                return trials["0"], trials["1"]
        time.sleep(0.1)
    raise AssertionError("waited in vain for the second trial")


def artifact(store: Store, run: Run, path: str, folder: Path) -> Path:
    """Return a downloaded artifact."""
    return Path(store.client.download_artifacts(run.info.run_id, path, str(folder)))


def prefect_artifact(flow_run_id: str) -> str:
    """Return the text of the artifact `sweep` of a flow run."""
    with get_client(sync_client=True) as client:
        (found,) = client.read_artifacts(
            artifact_filter=ArtifactFilter(
                flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]), key=ArtifactFilterKey(any_=["sweep"])
            )
        )
    return str(found.data)
