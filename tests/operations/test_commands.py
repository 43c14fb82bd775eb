"""The commands `ui`, `deploy`, `env` and `worker`: help, bad arguments, one sentence for each failure."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from operations import deploy, env, ui, worker
from tests.service_stack import CHECKOUT
from tests.web import Web

TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
COMMANDS = {"ui": ui.main, "deploy": deploy.main, "env": env.main, "worker": worker.main}


@pytest.fixture
def used_port() -> Iterator[int]:
    """Yield a loopback port that another program uses without answering."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every attempt to start a process, or to run Prefect's command line, fail."""

    def refuse(*arguments: object, **_: object) -> None:
        raise AssertionError(f"started: {arguments}")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(worker, "app", refuse)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.usefixtures("no_process")
def test_help_starts_nothing(name: str, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` prints the usage and ends with exit code 0."""
    with pytest.raises(SystemExit) as ended:
        COMMANDS[name](["--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: dcgan {name} [-h]")
    assert not state.exists()


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.usefixtures("no_process")
def test_unknown_arguments_are_refused(name: str, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An argument that the command does not know is named, with exit code 2."""
    known = ["--pool", "cpu"] if name == "worker" else []
    with pytest.raises(SystemExit) as ended:
        COMMANDS[name]([*known, "--verbose"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"dcgan {name}: error: unrecognized arguments: --verbose\n")
    assert not state.exists()


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize("name", ["ui", "deploy", "env"])
@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        (
            "PREFECT_API_URL",
            "localhost:4200",
            "The setting PREFECT_API_URL is 'localhost:4200'; expected an address like http://HOST:PORT.",
        ),
        (
            "PREFECT_API_URL",
            "http://[::1/api",
            "The setting PREFECT_API_URL is 'http://[::1/api'; expected an address like http://HOST:PORT.",
        ),
        ("DCGAN_SERVE_ARTIFACTS", "maybe", "The setting DCGAN_SERVE_ARTIFACTS is unusable: Input should be a valid "),
    ],
)
def test_an_unusable_setting_is_one_sentence(
    name: str,
    setting: str,
    value: str,
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sentence names the setting, with exit code 1 and without a traceback."""
    monkeypatch.setenv(setting, value)
    assert COMMANDS[name]([]) == 1
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert printed.out == ""
    assert line.startswith(f"error: {sentence}")


@pytest.mark.usefixtures("no_process", "state")
def test_a_worker_with_a_wrong_password_is_one_sentence(
    web: Web, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would not get in later either, so it does not wait."""
    web.answer("/api/work_pools/filter", web.respond(b"{}", "401 Unauthorized"))
    with temporary_settings({PREFECT_API_URL: f"{web.address}/api"}):
        assert worker.main(["--pool", "cpu"]) == 1
    assert capsys.readouterr().err == (
        f"error: The Prefect API {web.address}/api refuses PREFECT_API_AUTH_STRING; expected USER:PASSWORD of that "
        "server.\n"
    )


def run(module: str, state: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a module of operations until it ends."""
    return subprocess.run(
        [sys.executable, "-m", f"operations.{module}"],
        cwd=CHECKOUT,
        env={**os.environ, "DCGAN_STATE": str(state), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_ui_names_a_port_that_is_used(state: Path, used_port: int) -> None:
    """A port that is used is reported before anything is started."""
    done = run("ui", state, PREFECT_API_URL=f"http://127.0.0.1:{used_port}/api")
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: Port {used_port} of 127.0.0.1 cannot be used (Address already in use): stop the ")
    assert line.endswith("), or name another port in PREFECT_API_URL.")
    assert list((state / "logs").iterdir()) == []


@pytest.mark.slow
def test_deploy_reports_that_no_server_answers(state: Path, used_port: int) -> None:
    """If Prefect's server does not answer, the sentence says how to start one."""
    done = run("deploy", state, PREFECT_API_URL=f"http://127.0.0.1:{used_port}/api")
    assert done.returncode == 1
    assert done.stderr == (
        f"error: Prefect's server at http://127.0.0.1:{used_port}/api does not answer: start it with 'make ui', "
        "or set PREFECT_API_URL to the API of a server that runs.\n"
    )


def test_a_shell_evaluates_the_exports(tmp_path: Path) -> None:
    """After `eval`, the shell knows servers, state folder and programs, and sends no telemetry.

    Evaluated twice, it is the same, to the length of its path.
    """
    state = tmp_path / "a state's folder"
    environment = {**os.environ, "DCGAN_STATE": str(state)}
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "PREFECT_HOME", *TELEMETRY_OFF):
        environment.pop(name, None)
    once = f'eval "$({sys.executable} -m operations.env)"'
    names = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "DCGAN_STATE", "PREFECT_HOME", *TELEMETRY_OFF)
    show = f'echo "{"|".join(f"${name}" for name in names)}"; command -v prefect; echo "$PATH"'
    program = f"{once}; {show}; {once}; {show}"
    done = subprocess.run(
        ["sh", "-c", program], cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True
    )
    programs = str(Path(sys.executable).parent)
    others = [folder for folder in os.environ["PATH"].split(os.pathsep) if folder != programs]
    expected = [
        f"http://127.0.0.1:4200/api|http://127.0.0.1:5000|{state}|{state}/prefect|" + "|".join(TELEMETRY_OFF.values()),
        f"{programs}/prefect",
        os.pathsep.join([programs, *others]),
    ]
    assert done.stdout.splitlines() == expected * 2
