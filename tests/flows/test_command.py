"""The command line: bad arguments and dead servers in one sentence, and the exit code that belongs to each."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from prefect.exceptions import TerminationSignal

from dcgan.errors import DataError
from flows.command import run_command
from flows.train import main
from tasks.settings import Settings
from tasks.tracking.store import Store

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--recipe", "slow"], "--recipe: input should be 'fast', 'classic' or 'smoke', not 'slow'."),
        (["--epochs", "0"], "--epochs: input should be greater than or equal to 1, not '0'."),
        (
            ["--epochs", "ten"],
            "--epochs: input should be a valid integer, unable to parse string as an integer, not 'ten'.",
        ),
        (["--seed", "-1"], "--seed: input should be greater than or equal to 0, not '-1'."),
        (["--seed", "2147483648"], "--seed: input should be less than 2147483648, not '2147483648'."),
        (["--device", "tpu"], "--device: input should be 'auto', 'cpu' or 'gpu', not 'tpu'."),
        (["--resume", "../x"], "--resume: string should match pattern '^(auto|never|[0-9a-f]{32})$', not '../x'."),
        (["--source", ""], "--source: string should have at least 1 character, not ''."),
        (
            ["--source", "http://host/digits?key=secret"],
            "--source: The source http://host/digits?*** has a query or fragment; expected the prefix of four files.",
        ),
        (
            ["--source", "http://me:secret@host/digits"],
            "--source: The source http://***@host/digits holds credentials, which Prefect would store; expected them "
            "in ~/.netrc, or, of s3:// and gs://, where s3fs and gcsfs look for them.",
        ),
        (["--epoch", "3"], "error parsing CLI: unrecognized arguments: --epoch 3; see python -m flows.train --help."),
        (
            ["--recipe"],
            "error parsing CLI: argument --recipe: expected one argument; see python -m flows.train --help.",
        ),
    ],
)
def test_bad_arguments_are_one_line(arguments, sentence, state, capsys):
    """What is wrong, by the flag's name, exit code 2, and nothing written."""
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"error: {sentence}\n"
    assert not state.exists()


def test_the_environment_does_not_leak_into_flags(state, monkeypatch, capsys):
    """A variable that happens to be named like a flag changes nothing."""
    monkeypatch.setenv("epochs", "0")
    monkeypatch.setenv("EPOCHS", "0")
    assert main(["--recipe", "slow"]) == 2
    assert "epochs" not in capsys.readouterr().err
    assert not state.exists()


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (DataError("The file x is bad; expected y."), 1, "error: The file x is bad; expected y.\n"),
        (RuntimeError("boom"), 1, "error: Unexpected RuntimeError: boom\n"),
        (KeyboardInterrupt(), 130, "Interrupted. Nothing is left half done.\n"),
        (TerminationSignal(signal=signal.SIGTERM), 143, "Terminated. Nothing is left half done.\n"),
    ],
)
def test_exit_codes(error, code, sentence, capsys):
    """Each way to end has its exit code and its sentence, and no traceback."""

    def body():
        raise error

    assert run_command(body, debug=False) == code
    assert capsys.readouterr().err.startswith(sentence)


@pytest.mark.usefixtures("prefect_server")
def test_debug_shows_the_traceback(capsys):
    """With --debug a failure shows where it came from."""

    def body():
        raise DataError("The file x is bad.")

    assert run_command(body, debug=True) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_all_ends_at_once(number, code, state, small_folder):
    """Ctrl-C reaches every process of the terminal, yet the run's end is recorded and no server is left behind."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.train", "--recipe", "smoke", "--epochs", "1000", "--source", small_folder],
        env={**os.environ, "DCGAN_STATE": str(state)},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert any("Epoch 1:" in line for line in process.stderr)
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, number)
    said = process.stderr.read()
    assert process.wait(60) == code
    assert "The training's state is saved after every epoch: the same command goes on from there." in said
    assert "Error" not in said
    assert children
    assert not [child for child in children if child.is_running()]
    store = Store(Settings(state=state))
    (run,) = store.client.search_runs([store.experiment_id])
    assert run.info.status == "KILLED"


def run(state, *arguments, **environment):
    """Run the command in a process of its own, in another folder, and return it."""
    return subprocess.run(
        [sys.executable, "-m", "flows.train", "--recipe", "smoke", *arguments],
        env={**os.environ, "DCGAN_STATE": str(state), "PYTHONPATH": str(ROOT), **environment},
        cwd=state.parent,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_a_dead_prefect_is_one_sentence(state, free_port):
    """An API address that does not answer is named at once, with exit code 1."""
    done = run(state, PREFECT_API_URL=f"http://127.0.0.1:{free_port}/api")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: The Prefect API http://127.0.0.1:{free_port}/api does not answer (")
    assert len(done.stderr.splitlines()) == 1
    assert not (state / "data").exists()


@pytest.mark.slow
def test_a_dead_mlflow_is_one_sentence(state, free_port, small_folder):
    """A tracking address that does not answer ends the flow with its sentence, with exit code 1."""
    uri = f"http://127.0.0.1:{free_port}"
    done = run(state, "--source", str(small_folder), MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: The MLflow server {uri} does not answer (")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_source_that_is_not_there_is_one_sentence(state, tmp_path):
    """A folder that does not exist is named, with exit code 1, and nothing is left half done."""
    done = run(state, "--source", str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert "nowhere" in next(line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert "Traceback" not in done.stderr
    assert not (state / "mlflow.db").exists()


def test_help_explains_every_flag():
    """`--help` lists the flags and exits with 0."""
    with pytest.raises(SystemExit) as ending:
        main(["--help"])
    assert ending.value.code == 0
