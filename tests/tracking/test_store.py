"""The store: one that answers or is refused, created completely, and epochs that are recorded exactly once."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dcgan.errors import ConfigurationError, TrackingError, UnavailableError
from dcgan.training.checkpoint import load_checkpoint
from tasks.context import open_context
from tasks.settings import Settings
from tracking.epochs import EpochLog
from tracking.runs import create_run, tag_run
from tracking.tags import RECORDED_EPOCHS

ROOT = Path(__file__).parents[2]
OPEN_STORE = (
    "import flows; from tasks.context import open_context; from tasks.settings import Settings; "
    "context = open_context(Settings.read())"
)


def test_the_default_store_lies_under_the_state_folder(state, monkeypatch, tmp_path):
    """Database and artifacts are under the state folder, and nothing is written into the current folder."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    store = open_context(Settings(DCGAN_STATE=state, MLFLOW_TRACKING_URI=None)).store
    experiment = store.client.get_experiment(store.experiment_id)
    assert (state / "mlflow.db").exists()
    assert experiment.artifact_location == (state / "mlartifacts" / "dcgan").as_uri()
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("address", ["sqlite:///{folder}/mlflow", "sqlite+pysqlite:///{folder}/mlflow.db"])
def test_an_sqlite_database_of_any_name_is_created(state, tmp_path, address):
    """Without an extension, and with the driver named; what lies beside it is left alone."""
    (tmp_path / ".partial-1").write_text("another process writes this")
    store = open_context(Settings(DCGAN_STATE=state, MLFLOW_TRACKING_URI=address.format(folder=tmp_path))).store
    assert store.client.get_experiment(store.experiment_id).name == "dcgan"
    assert sorted(path.name for path in tmp_path.glob("*mlflow*") if path.suffix in ("", ".db")) == [Path(address).name]
    assert (tmp_path / ".partial-1").exists()


def test_a_database_that_cannot_be_written_is_one_sentence(pipeline, state, caplog):
    """The sentence has what SQLite says, not SQLAlchemy's remark before it, and MLflow logs no traceback."""
    store, dataset = pipeline.open().store, pipeline.prepare()
    run_id = create_run(store, pipeline.configuration(dataset), dataset.manifest, {})
    (state / "mlflow.db").unlink()
    caplog.clear()
    with pytest.raises(TrackingError) as refusal:
        tag_run(store, run_id, {"x": "1"})
    assert str(refusal.value) == f"The MLflow store {store.uri} failed: attempt to write a readonly database."
    assert caplog.records == []


def test_a_server_is_trusted_by_mlflows_own_settings(tls_web, state, monkeypatch):
    """A certificate that MLflow's client trusts is enough to open the store, and none other is."""
    web, certificate = tls_web
    with pytest.raises(TrackingError, match=r"does not answer \(.*certificate"):
        open_context(Settings(DCGAN_STATE=state, MLFLOW_TRACKING_URI=web.address))
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
    web.answer("/api/2.0/mlflow/experiments/get-by-name?experiment_name=dcgan", web.respond(b"{}"))
    with pytest.raises(TrackingError, match="does not answer as MLflow does"):
        open_context(Settings(DCGAN_STATE=state, MLFLOW_TRACKING_URI=web.address))


def test_a_server_that_does_not_answer_is_named(state, free_port):
    """A dead address is one sentence at once, with its password masked."""
    settings = Settings(DCGAN_STATE=state, MLFLOW_TRACKING_URI=f"http://me:secret@127.0.0.1:{free_port}")
    with pytest.raises(TrackingError) as refusal:
        open_context(settings)
    assert str(refusal.value).startswith(f"The MLflow server http://***@127.0.0.1:{free_port} does not answer (")
    assert "secret" not in str(refusal.value)


def test_a_store_of_unknown_kind_is_refused(state):
    """An address that MLflow cannot use is one sentence."""
    with pytest.raises(
        ConfigurationError, match=r"^The setting MLFLOW_TRACKING_URI is 'gopher://somewhere'; expected .*\.$"
    ):
        open_context(Settings(DCGAN_STATE=state, MLFLOW_TRACKING_URI="gopher://somewhere"))


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"<html>", "200 OK", r"The MLflow store {url} failed: .*not in a valid JSON format"),
        (b"[1]", "200 OK", r"The MLflow store {url} failed: .*not in a valid JSON format"),
        (b"{}", "200 OK", r"The server {url} does not answer as MLflow does; expected an MLflow server\."),
        # that of Prefect
        (b'{"detail": "Not Found"}', "404 Not Found", r"The server {url} does not answer as MLflow does; expected an"),
        (
            b'{"experiment": 3}',
            "200 OK",
            r"The MLflow server {url} gives an answer that is not from MLflow: .*experiment",
        ),
    ],
)
def test_a_server_that_is_not_mlflows_is_one_sentence(web, state, body, status, sentence):
    """Whatever it answers is one sentence."""
    web.answer("/health", web.respond(b"OK"))
    web.answer("/api/2.0/mlflow/experiments/get-by-name?experiment_name=dcgan", web.respond(body, status))
    with pytest.raises(TrackingError, match=f"^{sentence.format(url=web.address)}"):
        open_context(Settings(DCGAN_STATE=state, MLFLOW_TRACKING_URI=web.address))


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        ("500 Oops", "INTERNAL_ERROR", UnavailableError),
        ("503 Later", "TEMPORARILY_UNAVAILABLE", UnavailableError),
        ("403 No", "PERMISSION_DENIED", TrackingError),
    ],
)
def test_a_failure_that_may_pass_is_distinguished(web, state, status, code, kind):
    """A server that fails may work again, as where its bucket is away; one that refuses will refuse again."""
    body = json.dumps({"error_code": code, "message": "not now"}).encode()
    web.answer("/health", web.respond(b"OK"))
    web.answer("/api/2.0/mlflow/experiments/get-by-name?experiment_name=dcgan", web.respond(body, status))
    with pytest.raises(TrackingError) as failure:
        open_context(Settings(DCGAN_STATE=state, MLFLOW_TRACKING_URI=web.address))
    assert type(failure.value) is kind


def test_a_database_that_is_away_is_named_at_once(state, free_port):
    """MLflow itself would try for two minutes in silence; the password is masked."""
    address = f"127.0.0.1:{free_port}/mlflow"
    with pytest.raises(TrackingError) as refusal:
        open_context(Settings(DCGAN_STATE=state, MLFLOW_TRACKING_URI=f"postgresql://me:secret@{address}"))
    assert str(refusal.value) == (
        f'The database postgresql://***@{address} cannot be used (connection to server at "127.0.0.1", port '
        f"{free_port} failed: Connection refused); expected a running server that accepts the user, or no "
        "MLFLOW_TRACKING_URI for a local store."
    )


def test_a_database_that_does_not_answer_is_named(state):
    """A port that accepts and then says nothing would hold MLflow for ever."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}/mlflow"
        with pytest.raises(TrackingError, match=r"cannot be used \(connection to server .* timeout expired\)"):
            open_context(Settings(DCGAN_STATE=state, MLFLOW_TRACKING_URI=f"postgresql://me:secret@{address}"))


def test_a_driver_that_is_missing_is_named(state):
    """The sentence has the package's name and no password."""
    with pytest.raises(TrackingError) as refusal:
        open_context(Settings(DCGAN_STATE=state, MLFLOW_TRACKING_URI="mysql://me:secret@127.0.0.1/mlflow"))
    assert str(refusal.value) == (
        "The MLflow store mysql://***@127.0.0.1/mlflow needs a Python package that is not installed: "
        "No module named 'MySQLdb'."
    )


@pytest.mark.slow
@pytest.mark.usefixtures("state")
def test_two_processes_create_the_store_at_once():
    """Two processes that begin with no database both succeed, with one experiment."""
    program = f"{OPEN_STORE}; print(context.store.experiment_id)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=120)[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert answers[0] == answers[1] != ""


@pytest.mark.slow
def test_killed_while_it_is_created_the_database_is_created_again(state, python_without_templates):
    """SIGKILL among MLflow's migrations leaves no half-made database, only a folder that the next process removes."""
    process = subprocess.Popen(
        [python_without_templates, "-c", OPEN_STORE], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    half = state / ".mlflow.db.new" / "mlflow.db"
    while not half.exists():
        assert process.poll() is None
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert half.exists()
    assert not (state / "mlflow.db").exists()
    assert open_context(Settings(DCGAN_STATE=state, MLFLOW_TRACKING_URI=None)).store.client.search_experiments()
    assert not half.parent.exists()


@pytest.mark.parametrize("recorded", ["0", "1"])
def test_recording_again_duplicates_nothing(trained, recorded):
    """After a crash before the marker was written, metrics and sample grids are still there once."""
    store = trained.context.store
    run_id = trained.run.run_id
    store.client.set_tag(run_id, RECORDED_EPOCHS, recorded)
    EpochLog(store, trained.run.lease).record(load_checkpoint(trained.run.folder / "states" / "epoch-000002"))
    assert store.client.get_run(run_id).data.tags[RECORDED_EPOCHS] == "2"
    for name in ("train/generator_loss", "speed/epoch_seconds"):
        assert [metric.step for metric in store.client.get_metric_history(run_id, name)] == [1, 2]
    assert len(store.client.list_artifacts(run_id, "images")) == 6
