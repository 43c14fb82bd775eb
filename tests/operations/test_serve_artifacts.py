"""Artifacts behind MLflow's server, for clients on other machines: new ones, and those of a store of this machine."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dcgan.errors import TrackingError
from dcgan.provenance import Configuration
from dcgan.recipe import SMOKE
from dcgan.rng import fixed_latents
from operations import serve_artifacts, ui
from operations.servers import ServerSettings, mlflow_command, server_environment
from tests.pipeline import Pipeline
from tests.registry import Registry, lookup_generator
from tests.servers import mlflow_server, running
from tests.service_stack import CHECKOUT
from tracking.artifact_addresses import are_in_folder, put_behind_server
from tracking.lease import Holder
from tracking.registry import load_generator, resolve
from tracking.runs import create_run, tag_run, upload_text
from tracking.store import Store

LATENTS = fixed_latents(0, 4, 100)


@pytest.fixture
def local(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, free_port: int) -> Registry:
    """Return a store of this machine with a registered generator; its server's port is free."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port}")
    monkeypatch.delenv("DCGAN_LISTEN", raising=False)
    dataset = pipeline.prepare()
    images, labels = dataset.test
    registry = Registry(pipeline.open(), pipeline.source, dataset, images, labels)
    registry.register(lookup_generator(images[:20]))
    return registry


def command(arguments: str = "") -> tuple[int, str, str]:
    """Run `dcgan serve-artifacts`, and return its exit code and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "serve-artifacts", *arguments.split()],
        cwd=CHECKOUT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_a_local_store_is_moved_behind_its_server(local: Registry, tmp_path: Path, monkeypatch) -> None:
    """The server gives the same files, and what is new goes through it; without it, a sentence says where they are."""
    code, out, err = command()
    assert (code, err) == (0, "")
    assert out.startswith("The artifacts of 1 run are behind the server now.")
    assert command() == (0, "No artifact is addressed in a folder of this machine; nothing is changed.\n", "")
    with pytest.raises(TrackingError, match="keeps its artifacts behind an MLflow server"):
        Store(f"sqlite:///{local.context.settings.root}/mlflow.db", tmp_path, tmp_path / "lock")

    monkeypatch.setenv("DCGAN_SERVE_ARTIFACTS", "1")
    settings = ServerSettings()
    with running(mlflow_command(settings), server_environment(settings), settings.mlflow, tmp_path):
        refused = command()
        assert refused == (
            1,
            "",
            f"error: MLflow's server at {settings.mlflow.url} runs; expected 'make ui' to be stopped.\n",
        )
        store = Store(settings.mlflow.url, tmp_path / "elsewhere", tmp_path / "lock")
        images = load_generator(store, resolve(store, 1))(LATENTS)
        np.testing.assert_allclose(images, lookup_generator(local.digits[:20])(LATENTS), rtol=0, atol=1e-6)
        configuration = Configuration(recipe=SMOKE, seed=1, dataset_digest=local.dataset.digest)
        created = create_run(store, configuration, local.dataset.manifest, {})
        upload_text(store, created, "hello", "report/note.txt")
        addresses = [run.info.artifact_uri for run in store.client.search_runs([store.experiment_id])]
        assert [address.partition("/")[0] for address in addresses] == ["mlflow-artifacts:"] * 2
    assert not (tmp_path / "elsewhere").exists()
    (note,) = settings.artifact_root.rglob("note.txt")
    assert note.read_text() == "hello"


@pytest.mark.slow
def test_a_folder_that_this_machine_lacks_is_refused(tmp_path: Path) -> None:
    """A client of a server whose artifacts are in a folder of another machine would write them into its own."""
    away = (tmp_path / "away" / "mlartifacts").as_uri()
    with (
        mlflow_server(tmp_path, "--default-artifact-root", away) as (_, url),
        pytest.raises(TrackingError) as refusal,
    ):
        Store(url, tmp_path, tmp_path / "lock")
    assert str(refusal.value) == (
        f"The server {url} keeps its artifacts in {away}/1, a folder that this machine does not have; expected them "
        "behind the server: run 'dcgan serve-artifacts' on its machine."
    )


def test_a_run_in_use_keeps_its_address(local: Registry, capsys) -> None:
    """Its process would continue at the old one; nothing is changed."""
    settings = ServerSettings()
    (run,) = local.context.store.client.search_runs([local.context.store.experiment_id])
    tag_run(local.context.store, run.info.run_id, Holder(host="elsewhere", folder="/state").tags())
    assert serve_artifacts.main([]) == 1
    assert capsys.readouterr().err == (f"error: A process uses the run {run.info.run_id}; expected no training run.\n")
    assert are_in_folder(settings.mlflow_database, settings.artifact_root)


def test_beyond_loopback_nothing_starts_with_unreachable_artifacts(local: Registry, monkeypatch, capsys) -> None:
    """`make ui` names the command; with the artifacts behind the server, the database of no other folder matters."""
    monkeypatch.setenv("DCGAN_SERVE_ARTIFACTS", "1")
    settings = ServerSettings()
    assert ui.main([]) == 1
    assert capsys.readouterr().err == (
        f"error: MLflow's database {settings.mlflow_database} addresses artifacts in {settings.artifact_root}, where "
        "clients on other machines cannot read them: run 'dcgan serve-artifacts' once, which puts them behind the "
        "server.\n"
    )
    assert put_behind_server(settings.mlflow_database, settings.artifact_root / "other") == 0
    assert are_in_folder(settings.mlflow_database, settings.artifact_root)


def test_a_database_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    """MLflow makes it whole or not at all; an empty file would keep it from that."""
    assert not are_in_folder(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    """The sentence names it, without its password."""
    (tmp_path / "mlflow.db").write_text("no database, but long enough to be taken for one" * 100)
    with pytest.raises(TrackingError, match=r"^MLflow's database sqlite:///.*mlflow\.db cannot be used: "):
        are_in_folder(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)
    with pytest.raises(TrackingError, match=r"^MLflow's database nosuch://\*\*\*@host/db cannot be used: "):
        put_behind_server("nosuch://me:secret@host/db", tmp_path)
