"""The `dcgan` command: help, arguments, servers that do not answer, signals, and the exit code of each."""

import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from io import BytesIO, TextIOWrapper
from pathlib import Path

import httpx
import psutil
import pytest
from prefect.exceptions import ObjectNotFound, TerminationSignal

from dcgan.errors import DataError
from flows.cli import COMMANDS, main, run_command
from tasks.context import open_context
from tasks.results import Promotion
from tasks.settings import Settings
from tasks.sources import EXPECTED
from tests.service_stack import CHECKOUT

OPERATIONS = ("compare", "deploy", "env", "export", "prune", "serve-artifacts", "stack", "ui", "worker")
NO_INTEGER = "input should be a valid integer, unable to parse string as an integer"
NO_VERSION = "expected the number of a version from 1, or an alias such as champion"
NO_RECIPE = "--recipe: expected fast, classic or smoke, or on the command line the name of a .toml file, not 'slow'."
INSTALLED = Path(sys.executable).with_name("dcgan")
COMMAND = [str(INSTALLED)] if INSTALLED.exists() else [sys.executable, "-m", "flows.cli"]


def run(
    arguments: Sequence[str], state: Path, command: Sequence[str] = COMMAND, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, in another folder than the checkout's."""
    return subprocess.run(
        [*command, *arguments],
        env={**os.environ, "DCGAN_STATE": str(state), "PYTHONPATH": str(CHECKOUT), **variables},
        cwd=state.parent,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]], ids=["no arguments", "--help", "-h"])
def test_help_lists_the_commands(arguments, state, capsys):
    """Help explains every command and the options of every flow, and starts nothing."""
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert re.findall(r"^│ (\w[\w-]*) +[A-Z]", shown, re.MULTILINE) == [*COMMANDS, *OPERATIONS]
    for option in ("--summary PATH", "--debug ", "--version ", "--install-completion "):
        assert option in shown
    assert not state.exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_flow_lists_its_parameters(name, state, capsys):
    """Each parameter of the flow is a flag with its description and default."""
    assert main([name, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert shown.startswith(f"Usage: dcgan {name} [OPTIONS]")
    schema = COMMANDS[name].flow.parameters.model_dump()["properties"]
    assert schema
    for parameter, field in schema.items():
        assert f"--{'set' if parameter == 'hyperparameters' else parameter.replace('_', '-')} " in shown
        assert " ".join(field["description"].split()) in shown
        if field.get("default") not in (None, False, {}):
            assert f"[default: {field['default']}]" in shown
    assert "--summary PATH" in shown
    assert not state.exists()


@pytest.mark.parametrize("name", OPERATIONS)
def test_help_of_an_operation_starts_nothing(name, state, capsys):
    """`--help` of what starts servers or writes deployments only explains it, without the options of the flows."""
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: dcgan {name} ")
    assert "--summary" not in shown
    assert not state.exists()


def test_version(capsys):
    """`--version` prints the version of the installed package."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{version('dcgan')}\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("train --recipe slow", NO_RECIPE),
        ("train --epochs 0", "--epochs: input should be greater than or equal to 1, not '0'."),
        ("train --epochs ten", f"--epochs: {NO_INTEGER}, not 'ten'."),
        ("train --epochs 1.5", f"--epochs: {NO_INTEGER}, not '1.5'."),
        ("train --seed -1", "--seed: input should be greater than or equal to 0, not '-1'."),
        ("train --seed 2147483648", "--seed: input should be less than 2147483648, not '2147483648'."),
        ("train --device tpu", "--device: input should be 'auto', 'cpu' or 'gpu', not 'tpu'."),
        ("train --device null", "--device: input should be 'auto', 'cpu' or 'gpu', not null."),
        (
            "train --resume ../x",
            "--resume: expected auto, never, or the id of an MLflow run, which has 32 hexadecimal digits, not '../x'.",
        ),
        ("train --source=", "--source: string should have at least 1 character, not ''."),
        ("train --source ftp://h/x", f"--source: The source ftp://h/x cannot be used; expected {EXPECTED}."),
        (
            "train --source https://h/x?token=secret",
            "--source: The source https://h/x?*** has a query or fragment; expected the prefix of four files.",
        ),
        (
            "train --source https://me:secret@h/x",
            "--source: The source https://***@h/x contains credentials, which Prefect would store; expected them in "
            "~/.netrc, or, for s3:// and gs://, where s3fs and gcsfs look for them.",
        ),
        ("train --promotion never", "--promotion: input should be 'auto' or 'manual', not 'never'."),
        ("train --epoch 3", "Unknown option: --epoch. Did you mean --epochs? See dcgan train --help."),
        ("train --recipe", "Parameter --recipe requires an argument. See dcgan train --help."),
        ("train smoke", "Unexpected argument: smoke. See dcgan train --help."),
        ("evaluate --version 0", f"--version: {NO_VERSION}, not '0'."),
        ("evaluate --version ../x", f"--version: {NO_VERSION}, not '../x'."),
        ("promote", "Expected one of the two: --version with a number, or --rollback."),
        ("promote --version 2 --rollback", "Expected one of the two: --version with a number, or --rollback."),
        ("promote --rollback --force", "--force goes with --version; a rollback does not need it."),
        ("generate --out /tmp/\udce9", r"The argument '/tmp/\udce9' is not UTF-8; expected text in that encoding."),
        ("promote --version champion", f"--version: {NO_INTEGER}, not 'champion'."),
        ("generate --count 0", "--count: input should be greater than or equal to 1, not '0'."),
        ("generate --count 2000001", "--count: input should be less than or equal to 2000000, not '2000001'."),
        ("generate --seed -1", "--seed: input should be greater than or equal to 0, not '-1'."),
    ],
)
def test_arguments(arguments, sentence, state, unchanged, error_line):
    """Arguments that cannot be are refused by the name of the flag, before anything starts."""
    with unchanged():
        assert main(arguments.split()) == 2
    assert error_line() == sentence
    assert not state.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            "trian",
            'Unknown command "trian". Did you mean "train"? Available commands: train, sweep, evaluate, promote, '
            "generate, ui, stack, deploy, ... See dcgan --help.",
        ),
        ("worker", "Parameter --pool requires an argument. See dcgan worker --help."),
        ("ui --port 1", "Unknown option: --port. See dcgan ui --help."),
        ("compare", "Expected 2 to 8 runs to compare, not 0."),
        ("compare fast-seed0", "Expected 2 to 8 runs to compare, not 1."),
        ("compare 1 2 3 4 5 6 7 8 9", "Expected 2 to 8 runs to compare, not 9."),
        ("compare 1 2 --out x", "Unknown option: --out. Did you mean --output? See dcgan compare --help."),
        ("env x", "Unexpected argument: x. See dcgan env --help."),
        ("prune --older-than=-1", 'Invalid value "-1" for --older-than. Must be >= 0. See dcgan prune --help.'),
        (
            "prune --older-than week",
            'Invalid value for --older-than: unable to convert "week" into int. See dcgan prune --help.',
        ),
        (
            "ui --summary x",
            f"--summary, --quiet and --debug are options of the flows: {', '.join(COMMANDS)}.",
        ),
        (
            "deploy --debug",
            f"--summary, --quiet and --debug are options of the flows: {', '.join(COMMANDS)}.",
        ),
    ],
)
def test_arguments_of_operations(arguments, sentence, state, unchanged, error_line):
    """An unknown command, and what an operation does not take, are refused before anything starts."""
    with unchanged():
        assert main(arguments.split()) == 2
    assert error_line() == sentence
    assert not state.exists()


def test_the_environment_does_not_set_flags(state, monkeypatch, error_line):
    """A variable that happens to be named like a flag changes nothing."""
    for name in ("epochs", "EPOCHS", "DCGAN_EPOCHS", "DCGAN_TRAIN_EPOCHS"):
        monkeypatch.setenv(name, "0")
    assert main(["train", "--recipe", "slow"]) == 2
    assert error_line().startswith("--recipe: ")
    assert not state.exists()


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (DataError("The file x is bad; expected y."), 1, "error: The file x is bad; expected y.\n"),
        (RuntimeError("boom"), 1, "error: Unexpected RuntimeError: boom\n"),
        (OSError(28, "No space left on device", "/x/y"), 1, "error: /x/y cannot be used: No space left on device.\n"),
        (KeyboardInterrupt(), 130, "Interrupted. What was done is kept.\n"),
        (TerminationSignal(signal=signal.SIGTERM), 143, "Terminated. What was done is kept.\n"),
    ],
)
def test_exit_codes(error, code, sentence, capsys):
    """Each way to end has its exit code and its sentence, and no traceback."""

    def body():
        raise error

    assert run_command(body, debug=False, after_signal="What was done is kept.") == code
    assert capsys.readouterr().err == sentence


def answered(status: int) -> httpx.HTTPStatusError:
    """Return what Prefect's client raises for an answer with this status."""
    request = httpx.Request("POST", "http://x/api/flow_runs/")
    return httpx.HTTPStatusError("no", request=request, response=httpx.Response(status, request=request))


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(
    ("error", "what"),
    [
        (httpx.ConnectError("refused"), "stopped answering (refused)"),
        (answered(500), "failed with HTTP 500 (is its disk full?)"),
        (answered(401), "refuses PREFECT_API_AUTH_STRING"),
        (answered(404), "failed with HTTP 404"),
        (ObjectNotFound(ValueError()), "no longer has this flow run (was its database replaced?)"),
    ],
)
def test_a_prefect_server_that_fails_is_reported(error, what, capsys, request):
    """One sentence, unless a failure of the flow itself came first: that is then the reason."""
    request.addfinalizer(lambda: logging.disable(logging.NOTSET))

    def fail():
        raise error

    def fail_after_another():
        try:
            raise DataError("The file x is bad.")
        except DataError:
            fail()

    assert run_command(fail, debug=False, after_signal="") == 1
    assert re.fullmatch(
        rf"error: The Prefect API http://\S+ {re.escape(what)}, so it does not know how this flow run ended; "
        r"MLflow has what was done\.\n",
        capsys.readouterr().err,
    )
    assert run_command(fail_after_another, debug=False, after_signal="") == 1
    assert capsys.readouterr().err == "error: The file x is bad.\n"


@pytest.mark.usefixtures("prefect_server")
def test_debug_shows_the_traceback(capsys):
    """With --debug a failure shows where it came from, before its sentence."""

    def body():
        raise DataError("The file x is bad.")

    assert run_command(body, debug=True, after_signal="") == 1
    written = capsys.readouterr().err
    assert "Traceback" in written
    assert written.endswith("error: The file x is bad.\n")


def test_a_terminal_without_a_character_gets_another(state, monkeypatch):
    """Where standard output is not UTF-8, as in some locales, what cannot be written is replaced."""
    output = BytesIO()
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(output, encoding="ascii", write_through=True))
    assert main(["promote", "--help"]) == 0
    COMMANDS["promote"].show(Promotion(version=1, promoted=False, reason="The Fréchet distance is 4.9 ± 0.3."))
    assert output.getvalue().endswith(b"The Fr?chet distance is 4.9 ? 0.3.\n")


@pytest.mark.usefixtures("prefect_server")
def test_quiet_leaves_warnings_and_errors(request):
    """With --quiet neither Prefect nor the library logs what is as it should be."""
    logs = {name: logging.getLogger(name) for name in ("dcgan", "prefect")}
    for log in logs.values():
        request.addfinalizer(partial(log.setLevel, log.level))

    def body():
        for name in ("dcgan.train", "prefect.flow_runs", "prefect.task_runs"):
            assert not logging.getLogger(name).isEnabledFor(logging.INFO), name
            assert logging.getLogger(name).isEnabledFor(logging.WARNING), name

    assert run_command(body, quiet=True, after_signal="") == 0


def test_a_prefect_that_does_not_answer(state, free_port):
    """The API's address is named at once, from any folder, and standard error has nothing else: no warning either."""
    api = f"http://127.0.0.1:{free_port}/api"
    done = run(["train", "--recipe", "smoke"], state, PREFECT_API_URL=api)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: The Prefect API {api} does not answer (")
    assert len(done.stderr.splitlines()) == 1
    assert not (state / "data").exists()


@pytest.mark.parametrize(
    "name", [name if name == "train" else pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS]
)
def test_a_flows_module_is_the_same_command(name, state, free_port):
    """`python -m flows.train` is `dcgan train`, and importing the flow does not make Prefect warn."""
    module = [sys.executable, "-m", f"flows.{name}"]
    arguments = {"promote": ["--version", "1"], "sweep": ["--seeds", "0,1"]}.get(name, [])
    api = f"http://127.0.0.1:{free_port}/api"
    done = run(arguments, state, module, PREFECT_API_URL=api)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: The Prefect API {api} does not answer (")
    assert len(done.stderr.splitlines()) == 1
    refused = run(["--no-such-flag"], state, module)
    assert refused.returncode == 2
    assert refused.stderr == f"error: Unknown option: --no-such-flag. See dcgan {name} --help.\n"


def test_a_state_folder_that_cannot_be_created(tmp_path):
    """The libraries need it when they are imported, so the command ends there, with a sentence."""
    (tmp_path / "file").write_text("a file")
    done = run(["train"], tmp_path / "file", DCGAN_STATE=str(tmp_path / "file" / "state"))
    assert done.returncode == 1
    assert done.stderr == (
        f"error: The setting DCGAN_STATE is {tmp_path}/file/state, which cannot be created: Not a directory.\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("module", ["flows.cli", "operations.prune"])
def test_ctrl_c_while_libraries_are_imported_is_no_traceback(module, state):
    """They take seconds, and each of their thousand lines of code may be interrupted."""
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", module, "--help"],
        env={**os.environ, "DCGAN_STATE": str(state)},
        cwd=CHECKOUT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert any(line.endswith(" httpx\n") for line in process.stderr)
    process.send_signal(signal.SIGINT)
    others = [line for line in process.stderr if not line.startswith("import time:")]
    process.stderr.close()
    assert others == ["Interrupted.\n"]
    assert process.wait(60) == -signal.SIGINT


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_all_processes_ends_at_once(number, code, state, small_folder):
    """Ctrl-C reaches every process of the terminal, yet the run's end is recorded and no server is left running."""
    process = subprocess.Popen(
        [*COMMAND, "train", "--recipe", "smoke", "--epochs", "1000", "--source", small_folder],
        env={**os.environ, "DCGAN_STATE": str(state), "PYTHONPATH": str(CHECKOUT)},
        cwd=state.parent,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert any("Epoch 1 of 1000:" in line for line in process.stderr)
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, number)
    written = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == code
    assert written.endswith("The state is saved after every epoch: the same command resumes from there.\n")
    assert "Error" not in written
    assert "Traceback" not in written
    assert children
    assert not [child for child in children if child.is_running()]
    store = open_context(Settings(DCGAN_STATE=state, MLFLOW_TRACKING_URI=None)).store
    (mlflow_run,) = store.client.search_runs([store.experiment_id])
    assert mlflow_run.info.status == "KILLED"


@pytest.mark.slow
def test_an_mlflow_that_does_not_answer(state, free_port, small_folder):
    """A tracking address that does not answer ends the flow in one sentence."""
    uri = f"http://127.0.0.1:{free_port}"
    done = run(["train", "--recipe", "smoke", "--source", str(small_folder)], state, MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: The MLflow server {uri} does not answer (")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", [COMMAND, [sys.executable, "-m", "flows.cli"]], ids=["dcgan", "python -m"])
def test_a_source_that_does_not_exist(command, state, tmp_path):
    """A folder that does not exist is named, nothing is half written, and no library adds warnings of its own."""
    done = run(["train", "--recipe", "smoke", "--source", str(tmp_path / "nowhere")], state, command)
    assert done.returncode == 1
    *log, error = done.stderr.splitlines()
    assert error.startswith(f"error: The source {tmp_path}/nowhere is not a directory on this machine; expected ")
    assert log
    assert all(re.match(r"\d\d:\d\d:\d\d\.\d{3} \| (INFO|WARNING)", line) for line in log)
    assert not (state / "mlflow.db").exists()
