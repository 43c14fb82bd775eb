"""A disk that is full in mid-training: a sentence, exit code 1, and the states before it intact."""

import signal

import pytest
from mlflow import MlflowClient

from dcgan.checkpoint_files import load_checkpoint
from dcgan.files import TEMPORARY_PREFIX
from tests.servers import read_until, training

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_a_full_disk_stops_with_a_sentence(tmp_path, small_folder):
    """Where no state can be written any more the command says so, and what was saved before is whole and unchanged."""
    state = tmp_path / "state"
    arguments = ("--epochs", "1000", "--source", str(small_folder))
    with training(state, *arguments) as process:
        read_until(process, "Epoch 2:")
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        assert process.wait() == 130
    (folder,) = (state / "runs").iterdir()
    before = {path.name: load_checkpoint(path).weights_sha256() for path in (folder / "states").iterdir()}
    newest = max(before)

    with training(state, *arguments, file_kilobytes=8192) as process:
        said = process.stderr.read().splitlines()
        assert process.wait() == 1
    failed = f"epoch-{int(newest.removeprefix('epoch-')) + 1:06d}"
    sentence = f"The checkpoint {folder}/states/{failed} cannot be written: File too large; those before it are whole."
    assert said[-1] == f"error: {sentence}"
    assert "Traceback" not in "\n".join(said)
    assert {path.name: load_checkpoint(path).weights_sha256() for path in (folder / "states").iterdir()} == before
    assert list(state.rglob(f"{TEMPORARY_PREFIX}*")) == []
    run = MlflowClient(f"sqlite:///{state / 'mlflow.db'}").get_run(folder.name)
    assert run.info.status == "FAILED"
    assert run.data.tags["mlflow.note.content"] == sentence
