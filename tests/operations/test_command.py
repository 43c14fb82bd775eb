"""What the operations of the `dcgan` command share: exit codes and sentences."""

import signal
import sys
from pathlib import Path

import psutil
import pytest

from dcgan.errors import ConfigurationError
from operations.command import run_operation
from operations.supervisor import supervised


@pytest.mark.parametrize(("result", "code"), [(None, 0), (True, 0), (False, 1)])
def test_a_body_that_ends_gives_the_exit_code(result: bool | None, code: int) -> None:
    """Only False, by which a body says that it failed, is a failure."""
    assert run_operation(lambda: result) == code


def test_a_failure_is_a_sentence_without_credentials(capsys: pytest.CaptureFixture[str]) -> None:
    """The sentence goes to the standard error stream, and shows no password of an address."""

    def body() -> None:
        raise ConfigurationError("http://user:secret@host/ does not answer.")

    assert run_operation(body) == 1
    assert capsys.readouterr() == ("", "error: http://***@host/ does not answer.\n")


def test_ctrl_c_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever ends an operation gets no traceback, and the exit code of an interrupted program."""

    def body() -> None:
        raise KeyboardInterrupt

    assert run_operation(body) == 130
    assert capsys.readouterr().err == "Interrupted.\n"


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the operating system refuses is reported with the path."""
    path = tmp_path / "missing" / "file"
    assert run_operation(lambda: path.write_text("x") and None) == 1
    assert capsys.readouterr().err == f"error: {path} cannot be used: No such file or directory.\n"


def test_a_signal_ends_the_body_and_what_it_started(tmp_path: Path) -> None:
    """SIGTERM ends the watch without an error, and the process that was started is gone."""
    with supervised(tmp_path) as supervisor:
        sleeper = supervisor.start("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"], {})
        psutil.Process().send_signal(signal.SIGTERM)
        supervisor.watch()
        supervisor.wait_until(lambda: False, "Nothing", 60)
        pytest.fail("the body continued")
    assert sleeper.process.poll() is not None
