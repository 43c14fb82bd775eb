"""`dcgan prune`: what nothing refers to is shown, and with --delete removed; nothing else ever is."""

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from filelock import FileLock

from dcgan.files import TEMPORARY_PREFIX, exclusive_lock, sha256_of_file
from dcgan.training.run_folder import RunFolder
from operations.prune import DAY_SECONDS, find_surplus, main
from tasks.training_run import training_run
from tracking.lease import Holder
from tracking.tags import MODEL_NAME

DIGESTS = [letter * 64 for letter in "abcd"]


def contents(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder."""
    return {str(path.relative_to(folder)): sha256_of_file(path) for path in folder.rglob("*") if path.is_file()}


def make_old(path: Path) -> Path:
    """Give a file, or a folder and all that is in it, a time of two days ago."""
    then = time.time() - 2 * DAY_SECONDS
    for each in (path, *path.rglob("*")):
        os.utime(each, (then, then))
    return path


def add_file(path: Path) -> Path:
    """Make an old file of 1,000 bytes, and return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(1000))
    return make_old(path)


@pytest.fixture
def checkpoints(pipeline):
    """Return a function that returns the names of a run's checkpoints in MLflow."""
    client = pipeline.open().store.client
    return lambda run: [Path(file.path).name for file in client.list_artifacts(run.name, "checkpoints")]


@pytest.fixture
def datasets(pipeline, state):
    """Make the datasets of four digests, each with its download and classifiers, besides the one of the pipeline."""
    digest = pipeline.prepare().digest
    (download,) = pipeline.settings.downloads.glob("[!.]*")
    for other in DIGESTS:
        make_old(shutil.copytree(pipeline.settings.prepared / digest, pipeline.settings.prepared / other))
        make_old(add_file(pipeline.settings.classifiers / other / "selection.npz").parent)
    make_old(download)
    make_old(pipeline.settings.prepared / digest)
    return pipeline.settings.prepared / digest, download


def test_what_old_runs_left_is_shown_and_then_removed(add_run, checkpoints, state, capsys):
    """The dry run changes nothing; --delete removes what it has shown, and a second one finds nothing."""
    finished, unfinished = add_run(), add_run(status="KILLED")
    before = contents(state)
    assert main([]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert contents(state) == before
    assert [line.split("  ")[-1].strip() for line in shown[:-1]] == [
        f"checkpoints/ of the MLflow run {finished.name}",
        str(finished),
    ]
    assert "4 checkpoints" in shown[0]
    assert "finished run's folder" in shown[1]
    assert shown[-1].endswith(" kB can be removed: dcgan prune --delete does it.")

    assert main(["--delete"]) == 0
    assert capsys.readouterr().out.splitlines() == [*shown[:-1], shown[-1].replace(" can be", "").split(":")[0] + "."]
    assert checkpoints(finished) == ["epoch-000005"]
    assert not finished.exists()
    assert len(checkpoints(unfinished)) == 5
    assert len(list((unfinished / "states").iterdir())) == 2
    gone = {name for name in before if name not in contents(state)}
    assert {name for name in gone if finished.name not in name} == set()

    assert main(["--delete"]) == 0
    assert capsys.readouterr().out == "There is nothing to remove.\n"


def test_what_a_setting_keeps_stays(add_run, checkpoints, monkeypatch):
    """The setting of training runs applies to the checkpoints of old runs too."""
    run = add_run()
    for kept, left in (("all", 5), ("2", 2)):
        monkeypatch.setenv("DCGAN_KEEP_CHECKPOINTS", kept)
        assert main(["--delete"]) == 0
        assert len(checkpoints(run)) == left


def test_recent_runs_can_be_left_alone(add_run, checkpoints, capsys):
    """Runs that ended within the days of --older-than keep everything."""
    run = add_run()
    assert main(["--delete", "--older-than", "1"]) == 0
    assert capsys.readouterr().out == "There is nothing to remove.\n"
    assert len(checkpoints(run)) == 5
    assert run.exists()


@pytest.mark.parametrize("days", ["-1", "1.5", "soon", "²"])
def test_a_number_of_days_that_cannot_be_is_refused(days, capsys):
    """It is named, with exit code 2."""
    with pytest.raises(SystemExit) as ended:
        main([f"--older-than={days}"])
    assert ended.value.code == 2
    assert f"{days!r} is not a number of days; expected one from 0" in capsys.readouterr().err


def test_of_a_deleted_run_only_the_folder_goes(add_run, checkpoints, pipeline):
    """Its artifacts are MLflow's to remove, since it can be restored there."""
    run = add_run(status="FAILED")
    pipeline.open().store.client.delete_run(run.name)
    assert main(["--delete"]) == 0
    assert not run.exists()
    assert len(checkpoints(run)) == 5


def test_a_folder_whose_state_mlflow_does_not_have_stays(add_run, pipeline):
    """It is the only place from which the run could be trained further."""
    store, runs = pipeline.open().store, [add_run(epochs=2) for _ in range(3)]
    artifacts = [Path(store.client.get_run(run.name).info.artifact_uri.removeprefix("file://")) for run in runs]
    shutil.rmtree(artifacts[0] / "checkpoints")
    (artifacts[1] / "checkpoints" / "epoch-000002" / "arrays.npz").unlink()
    RunFolder(runs[2]).retain(2)
    assert main(["--delete"]) == 0
    assert all(run.exists() for run in runs)


def test_a_run_that_is_in_use_stays(add_run, checkpoints, state):
    """Elsewhere a lease shows it, here a lock."""
    elsewhere = add_run(**Holder(host="b", folder="/b").tags())
    here = add_run()
    with RunFolder(here).lock():
        assert main(["--delete"]) == 0
    assert [len(checkpoints(run)) for run in (elsewhere, here)] == [5, 5]
    assert elsewhere.exists()
    assert here.exists()


def test_what_is_used_again_meanwhile_stays(add_run, checkpoints, pipeline, datasets, capsys):
    """Found as surplus, but in use by the time at which it is to go, a run or a dataset is left alone."""
    context, run = pipeline.open(), add_run()
    leftover = add_file(pipeline.settings.runs / f"{TEMPORARY_PREFIX}1" / "file").parent
    make_old(leftover)
    found, _ = find_surplus(context)
    assert {surplus.what for surplus in found} == {
        "4 checkpoints",
        "finished run's folder",
        "dataset",
        "classifiers",
        "temporary files",
    }
    context.store.client.set_terminated(run.name, "RUNNING")
    for surplus in found:
        if surplus.what in ("dataset", "classifiers"):
            os.utime(surplus.where)
    with FileLock(leftover.with_suffix(".lock")):
        for surplus in found:
            with pytest.raises(Exception, match="in use"):
                surplus.remove()
    assert len(checkpoints(run)) == 5
    assert all(Path(surplus.where).exists() for surplus in found[1:])


def test_the_process_whose_run_is_taken_over_removes_nothing(add_run, pipeline, checkpoints, monkeypatch):
    """A flow run that is started again takes its finished run at once, and trains it no further."""
    context, dataset = pipeline.open(), pipeline.prepare()
    run = add_run(**{"prefect.flow_run_id": "f"})
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__ID", "f")
    with training_run(context, pipeline.configuration(dataset), dataset.manifest, "auto") as taken:
        assert taken.run_id == run.name
        assert main(["--delete"]) == 0
        assert len(checkpoints(run)) == 5
        assert run.exists()
    assert len(checkpoints(run)) == 1


def test_unused_data_is_removed(add_run, pipeline, datasets):
    """What a run, a version or the last training run refers to stays, and so does the rest of the state folder."""
    newest, download = datasets
    settings, client = pipeline.settings, pipeline.open().store.client
    of_run, of_version, of_deleted_run, _ = DIGESTS
    add_run(status="FAILED", dataset_digest=of_run)
    registered = add_run(dataset_digest=of_version)
    client.create_registered_model(MODEL_NAME)
    client.create_model_version(MODEL_NAME, registered.as_uri(), registered.name)
    for deleted in (registered, add_run(dataset_digest=of_deleted_run)):
        client.delete_run(deleted.name)
    make_old(newest)
    os.utime(newest)  # used last
    old_download = shutil.copytree(download, settings.downloads / "old")
    record = (download / "download.json").read_text()
    (old_download / "download.json").write_text(record.replace('"sha256": "', '"sha256": "0', 1))
    make_old(old_download)
    others = [add_file(settings.root / name) for name in ("generated/grid.png", "sweeps/optuna.db", "logs/x.log")]
    assert main(["--delete"]) == 0
    for folder in (settings.prepared, settings.classifiers):
        assert {path.name for path in folder.iterdir() if path.is_dir()} - {newest.name} == {of_run, of_version}
    assert newest.exists()
    assert download.exists()
    assert old_download.exists(), "a record that cannot be read says nothing"
    assert all(path.exists() for path in others)
    assert pipeline.prepare().digest == newest.name


def test_a_download_goes_with_its_dataset(pipeline, datasets, write_idx):
    """It is known by the digest in its record, and the dataset that was used last stays with its own."""
    newest, download = datasets
    os.utime(pipeline.settings.prepared / DIGESTS[0])
    assert main(["--delete"]) == 0
    assert not newest.exists()
    assert not download.exists()
    assert pipeline.prepare().folder == newest, "a source that is used again is fetched again"


def test_data_is_marked_as_used(pipeline, datasets):
    """A training run that has no run in MLflow yet is seen by the times of its data."""
    for folder in datasets:
        assert folder.stat().st_mtime < time.time() - DAY_SECONDS
    pipeline.prepare()
    for folder in datasets:
        assert folder.stat().st_mtime > time.time() - DAY_SECONDS


def test_runs_of_another_store_stay_with_their_data(add_run, datasets, state, capsys):
    """What this store does not know may be resumed with another one; a line says so."""
    add_run()
    unknown = add_file(state / "runs" / ("f" * 32) / "states" / "epoch-000001" / "arrays.npz").parents[2]
    assert main(["--delete"]) == 0
    assert unknown.exists()
    assert all((state / "data" / "prepared" / digest).exists() for digest in DIGESTS)
    line = f"{unknown} stays, and so does all data: the MLflow store does not know its run."
    assert line in capsys.readouterr().out.splitlines()


def test_temporary_files_of_killed_processes_are_removed(pipeline, state, capsys):
    """Old ones of dead processes, wherever this project makes them; recent ones and those of live processes stay."""
    pipeline.prepare()
    places = ["", "runs", "data/downloads", "data/prepared", "data/classifiers/x", "sweeps", "generated", "comparisons"]
    dead = [add_file(state / place / f"{TEMPORARY_PREFIX}dead.db") for place in places]
    dead.append(add_file(state / "runs" / f"{TEMPORARY_PREFIX}folder" / "states" / "arrays.npz").parents[1])
    dead.append(add_file(state / "data" / "prepared" / f"{TEMPORARY_PREFIX}mark.lock"))
    live = add_file(state / "data" / "prepared" / f"{TEMPORARY_PREFIX}live" / "train.parquet").parent
    recent = add_file(state / f"{TEMPORARY_PREFIX}recent.db")
    owned = add_file(state / "runs" / ("f" * 32) / f"{TEMPORARY_PREFIX}1" / "file")
    for path in (*dead, live):
        make_old(path)
    os.utime(recent)
    with FileLock(live.with_suffix(".lock")):
        assert main(["--delete"]) == 0
    assert [path for path in dead if path.exists()] == []
    assert live.exists()
    assert recent.exists()
    assert owned.exists()
    assert "temporary files" in capsys.readouterr().out


def test_an_interrupted_removal_leaves_nothing_half(add_run, checkpoints, pipeline, monkeypatch, capsys):
    """Killed while a folder is emptied, it is gone from its place; the same command removes the rest."""
    run = add_run()

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dcgan.files.shutil.rmtree", interrupt)
        assert main(["--delete"]) == 130
    assert capsys.readouterr().err == "Interrupted. The same command removes the rest.\n"
    assert main(["--delete"]) == 0
    assert checkpoints(run) == ["epoch-000005"]
    assert not run.exists()
    for leftover in pipeline.settings.runs.glob(f"{TEMPORARY_PREFIX}*"):
        make_old(leftover)
    assert main(["--delete"]) == 0
    assert list(pipeline.settings.runs.glob(f"{TEMPORARY_PREFIX}*")) == []


def test_one_at_a_time_removes(add_run, state, capsys):
    """A second process is refused in a sentence; to look is always possible."""
    run = add_run()
    with exclusive_lock(state / "prune.lock"):
        assert main([]) == 0
        assert main(["--delete"]) == 1
    assert capsys.readouterr().err == (
        f"error: Another process prunes the state folder {state}; expected to be the only one.\n"
    )
    assert run.exists()


def test_a_store_that_refuses_is_reported(add_run, monkeypatch, capsys, checkpoints):
    """What could not be removed stays, with its reason; the exit code says so."""
    run = add_run()

    def refuse(*_):
        raise OSError(13, "Permission denied")

    monkeypatch.setattr("mlflow.store.artifact.local_artifact_repo.LocalArtifactRepository.delete_artifacts", refuse)
    assert main(["--delete"]) == 1
    written = capsys.readouterr()
    assert written.err.startswith(f"checkpoints/ of the MLflow run {run.name} stays: The MLflow store ")
    assert len(checkpoints(run)) == 5


def test_an_mlflow_that_does_not_answer(state, free_port, monkeypatch, capsys):
    """One sentence, and nothing is looked at."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port}")
    assert main(["--delete"]) == 1
    assert capsys.readouterr().err.startswith(f"error: The MLflow server http://127.0.0.1:{free_port} does not answer")


def test_a_run_that_was_trained_elsewhere_leaves_no_folder(add_run, checkpoints):
    """Only its checkpoints are removed."""
    run = add_run()
    shutil.rmtree(run)
    assert main(["--delete"]) == 0
    assert checkpoints(run) == ["epoch-000005"]
    assert not run.exists()


def test_other_processes_may_remove_folders_meanwhile(add_run, datasets, state):
    """Sizes are added up of what is still there."""
    add_run()
    busy, ended = state / "data" / "prepared" / f"{TEMPORARY_PREFIX}busy", Event()

    def make_and_remove():
        while not ended.is_set():
            (busy / "a" / "b" / "c").mkdir(parents=True)
            shutil.rmtree(busy)

    with ThreadPoolExecutor() as pool:
        done = pool.submit(make_and_remove)
        try:
            assert [main([]) for _ in range(20)] == [0] * 20
        finally:
            ended.set()
    assert done.result() is None
