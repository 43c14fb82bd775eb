"""`dcgan compare`: one page about runs that were really trained, or one sentence and no page."""

import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from operations.compare import main
from tasks.context import Context
from tasks.settings import Settings
from tests.dcgan.report.conftest import HOSTILE
from tests.dcgan.report.test_render import Reader
from tests.pipeline import Pipeline
from tests.registry import ChampionRegistry
from tests.service_stack import CHECKOUT
from tracking.metrics import metric_name
from tracking.tags import MODEL_NAME, REPORT_JSON


@dataclass(frozen=True)
class Runs:
    """A store with three runs; tests only read it.

    Attributes:
        context: Settings and store.
        smoke: Id of a complete training run of two epochs, `smoke-seed7`.
        wide: Id of one of one epoch with other parameters, `wide-seed7`.
        hostile: Id of one that is not finished, whose name and parameter look like markup, with values that are not
            finite.
    """

    context: Context
    smoke: str
    wide: str
    hostile: str


@pytest.fixture(scope="module")
def trained_runs(small_folder: Path, tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Runs:
    """Train twice on real digits, and begin a third run."""
    state = tmp_path_factory.mktemp("compared") / "state"
    state.mkdir()
    shutil.copy(empty_database, state / "mlflow.db")
    pipeline = Pipeline(small_folder, Settings(DCGAN_STATE=state, MLFLOW_TRACKING_URI=None))
    dataset, context = pipeline.prepare(), pipeline.open()
    smoke, wide = (
        pipeline.train(pipeline.configuration(dataset, **changes), dataset, "never", context)[0].run_id
        for changes in ({}, {"name": "wide", "epochs": 1, "batch_size": 128})
    )
    client = context.store.client
    hostile = client.create_run(context.store.experiment_id, run_name=HOSTILE).info.run_id
    client.log_param(hostile, "batch_size", HOSTILE)
    for step, value in enumerate((math.nan, math.inf, 1.5), 1):
        client.log_metric(hostile, metric_name("generator_loss"), value, step=step)
    return Runs(context, smoke, wide, hostile)


@pytest.fixture
def runs(trained_runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Return the runs, in the store that the settings of this process name."""
    monkeypatch.setenv("DCGAN_STATE", str(trained_runs.context.settings.root))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return trained_runs


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """Return a function that compares, expects that this is refused and that nothing is written, and returns why."""

    def compare(*names: str) -> str:
        out = tmp_path / "pages" / "comparison.html"
        assert main([*names, "--output", str(out)]) == 1
        assert not out.parent.exists()
        printed = capsys.readouterr()
        assert printed.out == ""
        (line,) = printed.err.splitlines()
        return line.removeprefix("error: ")

    return compare


def compared(out: Path, *names: str) -> Reader:
    """Compare runs and return the page."""
    assert main([*names, "--output", str(out)]) == 0
    return Reader(out.read_text(encoding="utf-8"))


def rows(reader: Reader) -> list[list[str]]:
    return [[" ".join(cell.split()) for cell in row] for row in reader.rows]


def test_runs_are_compared(runs, tmp_path, capsys):
    """Of two complete runs and one that has begun: facts, what differs, curves and grids; the path is printed."""
    out = tmp_path / "pages" / "comparison.html"
    reader = compared(out, "smoke-seed7", runs.wide, runs.hostile)
    assert capsys.readouterr().out == f"{out}\n"
    found = rows(reader)
    assert found[0] == ["", "1 smoke-seed7", "2 wide-seed7", f"3 {HOSTILE}"]
    assert found[1] == ["MLflow run", runs.smoke, runs.wide, runs.hostile]
    assert ["Status", "finished", "finished", "running"] in found
    assert ["Epochs", "2 of 2", "1 of 1", "0"] in found
    assert ["batch_size", "32", "128", HOSTILE] in found
    assert ["name", "smoke", "wide", "–"] in found
    assert re.search(r"\n0 parameters are equal\.\n", reader.text)
    assert found[-4][:4] == ["epoch", "Generator loss, 1", "Generator loss, 2", "Generator loss, 3"]
    losses = runs.context.store.client.get_metric_history(runs.smoke, metric_name("generator_loss"))
    for row, loss in zip(found[-3:-1], losses, strict=True):
        assert row[1] == f"{loss.value:.4g}"
    assert found[-1][:4] == ["3", "", "", "1.5"]
    assert "None of the runs was evaluated." in reader.text
    assert len(reader.images()) == 2
    text = " ".join(reader.text.split())
    for caption in ("1 smoke-seed7: epoch 2", "2 wide-seed7: epoch 1", f"3 {HOSTILE}: no samples were recorded"):
        assert caption in text
    assert "same seed: 1 and 2." in reader.text
    assert "script" not in [tag for tag, _ in reader.elements]


def test_the_page_is_in_the_state_folder(runs, capsys):
    """Named after the runs, so that the same comparison is the same file."""
    for _ in range(2):
        assert main([runs.smoke, runs.wide]) == 0
        path = Path(capsys.readouterr().out.strip())
        assert path == runs.context.settings.root / "comparisons" / f"{runs.smoke[:8]}-{runs.wide[:8]}.html"
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    text = Reader(path.read_text(encoding="utf-8")).text
    assert re.search(r"\n\d\d parameters are equal, and so are the dataset digest and the code digest\.\n", text)
    assert "The runs have the same seed" in text


def test_evaluated_versions_are_compared(in_service: ChampionRegistry, tmp_path):
    """By number and alias: the metrics of both classifiers with their errors, and which is better beyond them."""
    found = rows(compared(tmp_path / "page.html", "champion", "2", "4"))
    columns = [each.candidate for each in (in_service.champion, in_service.better, in_service.crippled)]
    best = {"frechet_distance", "kernel_distance", "coverage"}
    for name in ("frechet_distance", "confidence"):
        for role, classifier in (("selection", "selection"), ("held_out", "held-out")):
            first, second, third = (str(each.report(role).estimates()[name]) for each in columns)
            assert [classifier, first, second + " best" * (name in best), third] in [row[-4:] for row in found]
    assert ["Version", "1", "2", "4"] in found


def test_a_report_that_cannot_be_read_is_reported(in_service: ChampionRegistry, tmp_path, log):
    """The run is shown as one that was not evaluated, and a warning names it."""
    client = in_service.context.store.client
    run_id = client.create_run(in_service.context.store.experiment_id, run_name="damaged").info.run_id
    client.log_text(run_id, '{"candidate": NaN}', REPORT_JSON)
    found = rows(compared(tmp_path / "page.html", "2", "damaged"))
    assert {row[-1] for row in found if "selection" in row} == {"not evaluated"}
    assert f"The recorded evaluation of the run {run_id} cannot be used (dataset_digest: Field required)" in log.text


def test_several_runs_of_one_name_are_refused(in_service: ChampionRegistry, refusal):
    """The sentence lists their ids."""
    client, store = in_service.context.store.client, in_service.context.store
    text = refusal("smoke-seed0", "1")
    assert text.startswith("4 runs are called smoke-seed0: ")
    assert all(run.info.run_id in text for run in client.search_runs([store.experiment_id]))
    run_id = client.get_model_version(MODEL_NAME, "1").run_id
    assert refusal("champion", "1") == f"champion and 1 are the same run, {run_id}; expected different runs."


def test_what_cannot_be_compared_is_refused(runs, refusal, free_port, monkeypatch):
    """The same run twice, a run that does not exist, and a server that does not answer."""
    assert refusal("smoke-seed7", runs.smoke) == (
        f"smoke-seed7 and {runs.smoke} are the same run, {runs.smoke}; expected different runs."
    )
    assert refusal("smoke-seed7", "none").startswith("There is no run none in the MLflow store; expected the id or ")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port}")
    assert refusal(runs.smoke, runs.wide).startswith(
        f"The MLflow server http://127.0.0.1:{free_port} does not answer ("
    )


def test_a_page_that_cannot_be_written_is_one_sentence(runs, tmp_path, capsys):
    """One sentence that names the file."""
    assert main([runs.smoke, runs.wide, "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path}: cannot be written: it is a folder; expected the name of a file.\n"
    )


@pytest.mark.slow
def test_the_command(runs, tmp_path):
    """From any folder: standard output has the path, and standard error nothing, not even of TensorFlow."""
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "compare", "--output", "page.html", "smoke-seed7", runs.wide],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path / 'page.html'}\n"
    assert "smoke-seed7" in (tmp_path / "page.html").read_text(encoding="utf-8")
