"""The pipeline as a flow, through a real Prefect server."""

import asyncio
import base64
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from imageio.v3 import imread
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ParameterTypeError, TerminationSignal
from prefect.states import AwaitingRetry, Crashed, Running, exception_to_crashed_state

from dcgan.errors import ConfigurationError, DataError, DeviceError, TrainingDivergedError
from dcgan.recipe import RECIPES
from flows.cli import main
from flows.train import after_signal, dcgan
from tasks.context import open_context
from tasks.flow_run import require_starts_left
from tasks.results import Summary
from tasks.settings import Settings
from tracking.store import Store
from tracking.tags import MODEL_NAME


@dataclass(frozen=True)
class FlowResult:
    """A flow run's summary, and where it wrote."""

    state: Path
    summary: Summary


def train(source: Path) -> Summary:
    """Run the whole flow for one epoch, with a hyperparameter of its own."""
    return dcgan(recipe="smoke", epochs=1, hyperparameters={"beta_1": 0.25}, seed=3, source=str(source), device="cpu")


@pytest.fixture(scope="module")
def flow_result(prefect_server, small_folder, tmp_path_factory) -> FlowResult:
    """Run the whole flow once, on the small dataset."""
    state = tmp_path_factory.mktemp("flow") / "state"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCGAN_STATE", str(state))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return FlowResult(state, train(small_folder))


@pytest.fixture
def result(flow_result, monkeypatch) -> FlowResult:
    """Return the flow's result, with the settings of this process on its state folder."""
    monkeypatch.setenv("DCGAN_STATE", str(flow_result.state))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return flow_result


def open_store() -> Store:
    """Return the MLflow store of this process's settings."""
    return open_context(Settings.read()).store


def versions() -> list[int]:
    """Return the numbers of all registered versions, in order."""
    found = open_store().client.search_model_versions(f"name = '{MODEL_NAME}'")
    return sorted(int(version.version) for version in found)


def flow_run_of(summary: Summary) -> FlowRun:
    """Return the Prefect flow run that the MLflow run names."""
    run = open_store().client.get_run(summary.run_id)
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run.data.tags["prefect.flow_run_id"])


def prepared_files(state: Path) -> dict[Path, tuple[int, int]]:
    """Return inode and time of the last change of every file of the prepared data; a file written again has others."""
    files = [path for path in (state / "data" / "prepared").rglob("*") if path.is_file()]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def test_the_summary_describes_the_run(result):
    """Every field of the summary is that of the run."""
    summary = result.summary
    assert (summary.experiment, summary.model_name, summary.model_version) == ("dcgan", MODEL_NAME, 1)
    assert (summary.recipe, summary.seed, summary.epochs, summary.steps) == ("smoke", 3, 1, 16)
    assert summary.seconds.keys() == {"download", "prepare", "train", "render", "register", "gate"}
    assert (summary.promoted, summary.quality) == (False, {})
    assert summary.verdict == "The recipe smoke is not evaluated, so its versions are never promoted automatically."
    assert summary.state_dir == result.state
    assert summary.resumed_from_epoch == 0
    run = open_store().client.get_run(summary.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["train/generator_loss"] == summary.metrics["generator_loss"]
    assert (run.data.params["beta_1"], run.data.params["epochs"]) == ("0.25", "1")
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith(f"{summary.verdict}\n\n![sample grid](get-artifact?path=report%2Fsamples.png&run_uuid=")
    assert note.endswith(f"\n{MODEL_NAME}, version 1\n")


def test_every_task_is_completed_once(result):
    """The flow run is Completed, and so are its seven tasks."""
    flow_run = flow_run_of(result.summary)
    assert flow_run.state_name == "Completed"
    assert flow_run.state.message == result.summary.verdict
    with get_client(sync_client=True) as client:
        task_runs = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id])))
    names = sorted(task_run.name.rsplit("-", 1)[0] for task_run in task_runs)
    assert names == ["describe", "download", "prepare", "record", "register", "render", "train"]
    assert {task_run.state_name for task_run in task_runs} == {"Completed"}


def test_prefect_shows_progress_and_result(result):
    """The flow run is named like the MLflow run, and shows the progress, the newest samples and a summary."""
    flow_run = flow_run_of(result.summary)
    with get_client(sync_client=True) as client:
        answer = client.request("POST", "/artifacts/filter", json={"flow_runs": {"id": {"any_": [str(flow_run.id)]}}})
    shown = {artifact["key"]: artifact for artifact in answer.json()}
    artifacts = {key: artifact["data"] for key, artifact in shown.items()}
    assert flow_run.name == "smoke-seed3"
    assert artifacts.keys() == {"training-progress", "samples", "training-summary"}
    assert artifacts["training-progress"] == 100
    assert shown["training-progress"]["description"] == "Epoch 1 of 1"
    picture, line = artifacts["samples"].strip().split("\n\n")
    grid = imread(base64.b64decode(picture.removeprefix("![samples of epoch 1](data:image/png;base64,")[:-1]))
    assert grid.shape == (336, 336)
    assert line.startswith("Epoch 1: generator loss ")
    assert result.summary.run_id in artifacts["training-summary"]


def test_everything_is_written_under_the_state_folder(result):
    """The data, the run's folder, the database and the artifacts are there."""
    assert {"data", "runs", "mlflow.db", "mlartifacts"} <= {path.name for path in result.state.iterdir()}


@pytest.mark.slow
def test_a_second_run_prepares_nothing_and_registers_the_next_version(result, small_folder):
    """The same training again is a new run with the same bits, on the Parquet files that already exist."""
    registered, prepared = versions(), prepared_files(result.state)
    assert {path.name for path in prepared} >= {"train.parquet", "test.parquet"}
    again = train(small_folder)
    assert prepared_files(result.state) == prepared
    assert again.run_id != result.summary.run_id
    assert versions() == [*registered, again.model_version]
    assert again.model_version == registered[-1] + 1
    assert again.weights_sha256 == result.summary.weights_sha256


@pytest.mark.slow
def test_a_flow_run_that_is_started_again_after_its_end_trains_nothing(result, small_folder, monkeypatch):
    """Declared dead when all was done, a flow run ends with the run and the version that it has made."""
    registered = versions()
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__ID", str(flow_run_of(result.summary).id))
    again = train(small_folder)
    assert (again.run_id, again.model_version) == (result.summary.run_id, result.summary.model_version)
    assert again.resumed_from_epoch == 1
    assert again.weights_sha256 == result.summary.weights_sha256
    assert versions() == registered
    client = open_store().client
    assert client.get_run(again.run_id).info.status == "FINISHED"
    assert [metric.step for metric in client.get_metric_history(again.run_id, "train/generator_loss")] == [1]


@pytest.mark.usefixtures("prefect_server")
def test_a_source_that_does_not_exist_fails_before_a_run_begins(state, tmp_path):
    """The flow fails in one sentence, and MLflow has no run."""
    with pytest.raises(DataError, match="nowhere"):
        dcgan(recipe="smoke", source=str(tmp_path / "nowhere"))
    assert not (state / "mlflow.db").exists()


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(
    ("crashes", "stops", "refused"), [(3, 0, False), (4, 0, True), (3, 9, False)], ids=["crashes", "more", "stops"]
)
def test_a_flow_run_that_keeps_crashing_is_not_started_again(crashes, stops, refused, monkeypatch):
    """The fourth crash is the last, of which a sentence tells; to be stopped with its worker is none."""
    stopped = asyncio.run(exception_to_crashed_state(TerminationSignal(signal=15)))
    with get_client(sync_client=True) as client:
        created = client.create_flow_run(dcgan)
        for crashed in [*[Crashed()] * crashes, *[stopped] * stops]:
            for state in (Running(), crashed, AwaitingRetry()):
                client.set_flow_run_state(created.id, state.model_copy(update={"id": uuid4()}), force=True)
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__ID", str(created.id))
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__NAME", "able-ant")
    sentence = r"^The flow run able-ant crashed 4 times; expected at most 3 crashes"
    with pytest.raises(ConfigurationError, match=sentence) if refused else nullcontext():
        require_starts_left()


@pytest.mark.usefixtures("prefect_server")
def test_a_device_that_does_not_exist_fails_at_once(state):
    """Without a GPU, asking for one fails in one sentence before anything is downloaded or tracked."""
    with pytest.raises(DeviceError, match=r"^TensorFlow sees no GPU on this machine; expected at least one "):
        dcgan(recipe="smoke", device="gpu")
    assert not (state / "data").exists()
    assert not (state / "mlflow.db").exists()


@pytest.mark.usefixtures("prefect_server")
def test_data_that_cannot_be_evaluated_is_refused_before_it_is_trained_on(state, small_folder):
    """The sentence says what trains all the same."""
    with pytest.raises(DataError) as refusal:
        dcgan(recipe="fast", source=str(small_folder), device="cpu")
    assert str(refusal.value) == (
        "There are 600 training and 100 test images; expected at least 1,000 of each, or a recipe that does not "
        "evaluate: evaluate_every=null and checkpoint_selection=last."
    )
    assert not (state / "mlflow.db").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server", "state")
def test_a_training_run_that_diverges_is_failed_in_mlflow(small_folder, monkeypatch):
    """A loss that is not finite ends flow run and MLflow run as failed, with the sentence as its note."""
    absurd = RECIPES["smoke"].model_copy(update={"generator_learning_rate": 1e30, "discriminator_learning_rate": 1e30})
    monkeypatch.setitem(RECIPES, "smoke", absurd)
    with pytest.raises(TrainingDivergedError) as failure:
        dcgan(recipe="smoke", source=str(small_folder), device="cpu")
    store = open_store()
    (run,) = store.client.search_runs([store.experiment_id])
    assert run.info.status == "FAILED"
    assert run.data.tags["mlflow.note.content"] == f"**Failed:** {failure.value}"


@pytest.mark.usefixtures("prefect_server")
def test_parameters_are_refused_before_anything_runs(state):
    """Prefect checks a call of the flow as it checks its form."""
    with pytest.raises(ParameterTypeError, match="recipe: Value error, expected fast, classic or smoke"):
        dcgan(recipe="slow")
    assert not (state / "data").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_the_command_writes_its_summary_and_prints_the_result(result, small_folder, tmp_path, capsys):
    """`dcgan train` ends with exit code 0, its summary as JSON, and run, version and verdict on the terminal."""
    file = tmp_path / "new folder" / "summary.json"
    arguments = ["--recipe", "smoke", "--set", "epochs=1", "--set", "beta_1=0.25", "--seed", "3", "--device", "cpu"]
    assert main(["train", *arguments, "--source", str(small_folder), "--summary", str(file)]) == 0
    summary = Summary.model_validate_json(file.read_text())
    assert summary.weights_sha256 == result.summary.weights_sha256
    printed = capsys.readouterr().out
    for shown in (summary.run_id, f"{MODEL_NAME} version {summary.model_version}", summary.verdict):
        assert shown in printed


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server", "state")
def test_a_seed_of_null_is_derived_from_the_flow_run(small_folder, tmp_path):
    """`--seed null` trains with a seed of the flow run's own, which the summary names."""
    file = tmp_path / "summary.json"
    arguments = ["--recipe", "smoke", "--epochs", "1", "--seed", "null", "--source", str(small_folder)]
    assert main(["train", *arguments, "--device", "cpu", "--summary", str(file)]) == 0
    summary = Summary.model_validate_json(file.read_text())
    assert summary.seed == flow_run_of(summary).id.int % 2**31


@pytest.mark.parametrize(("changed", "same"), [({}, True), ({"seed": None}, False), ({"resume": "never"}, False)])
def test_an_interrupted_user_reads_how_to_resume(changed, same):
    """The same command resumes only where it trains the same again."""
    assert ("the same command resumes from there" in after_signal(**changed)) is same
    assert ("--resume with the run's id" in after_signal(**changed)) is not same
