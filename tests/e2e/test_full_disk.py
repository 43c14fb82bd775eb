"""A disk that is full during training: one sentence, exit code 1, and the earlier states intact."""

import signal

import pytest
from mlflow import MlflowClient

from dcgan.files import TEMPORARY_PREFIX
from dcgan.training.checkpoint import load_checkpoint
from tests.servers import read_until, train_process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_a_full_disk_stops_with_a_sentence(tmp_path, small_folder):
    """The command names the state that it cannot write, and the states that were saved before are unchanged."""
    state = tmp_path / "state"
    arguments = ("--epochs", "1000", "--source", str(small_folder))
    with train_process(state, *arguments) as process:
        read_until(process, "Epoch 2 of ")
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        assert process.wait() == 130
    (folder,) = (path for path in (state / "runs").iterdir() if path.is_dir())
    before = {path.name: load_checkpoint(path).weights_sha256() for path in (folder / "states").iterdir()}
    newest = max(before)

    with train_process(state, *arguments, file_kilobytes=8192) as process:
        log = process.stderr.read().splitlines()
        assert process.wait() == 1
    failed = f"epoch-{int(newest.removeprefix('epoch-')) + 1:06d}"
    reason = "cannot be written: File too large; earlier checkpoints are intact."
    sentence = f"The checkpoint {folder}/states/{failed} {reason}"
    assert log[-1] == f"error: {sentence}"
    assert "Traceback" not in "\n".join(log)
    assert {path.name: load_checkpoint(path).weights_sha256() for path in (folder / "states").iterdir()} == before
    assert list(state.rglob(f"{TEMPORARY_PREFIX}*")) == []
    run = MlflowClient(f"sqlite:///{state / 'mlflow.db'}").get_run(folder.name)
    assert run.info.status == "FAILED"
    assert run.data.tags["mlflow.note.content"] == f"**Failed:** {sentence}"
