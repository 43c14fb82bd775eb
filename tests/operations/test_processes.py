"""Processes that live and end together, on real processes."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import psutil
import pytest

from operations.processes import Child, Fleet, ProcessError, StopRequestedError, stop_on_signals

SLEEP = "import time; print('ready', flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]).wait()"
# like Prefect's worker: told to end, it kills its run at once; the run saves something when it is told itself
RUN = """
import pathlib, signal, sys, time
def save(*_):
    pathlib.Path(sys.argv[1]).write_text("saved")
    raise SystemExit
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(60)
"""
WORKER = """
import signal, subprocess, sys
run = subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]])
def end(*_):
    run.kill()
    raise SystemExit
signal.signal(signal.SIGTERM, end)
run.wait()
signal.pause()
"""


@pytest.fixture
def stop() -> Event:
    """Return the event that asks a fleet to end."""
    return Event()


@pytest.fixture
def fleet(tmp_path: Path, stop: Event) -> Iterator[Fleet]:
    """Yield an empty fleet; whatever a test leaves running ends with it."""
    fleet = Fleet(tmp_path / "logs", stop, grace_seconds=5)
    yield fleet
    fleet.end(())


def start(fleet: Fleet, program: str, *arguments: str) -> Child:
    """Start a Python program, and return once it, or what it started, has printed that it is ready."""
    child = fleet.start("child", [sys.executable, "-c", program, *arguments], Path.cwd(), os.environ)
    fleet.wait_until(lambda: b"ready" in child.log.read_bytes(), "the child", 30)
    return child


def test_a_child_that_ends_is_told(fleet: Fleet, tmp_path: Path) -> None:
    """While all wait for something, the first process that ends is named, with its exit code and its log."""
    child = fleet.start("child", [sys.executable, "-c", "print('oh'); exit(3)"], tmp_path, os.environ)
    with pytest.raises(ProcessError) as caught:
        fleet.wait_until(lambda: False, "nothing", 30)
    assert str(caught.value) == f"child ended with exit code 3; its last words are in {child.log}."
    assert child.log.read_text() == "oh\n"


def test_silence_has_an_end(fleet: Fleet, tmp_path: Path) -> None:
    """What never answers is given up, and named."""
    with pytest.raises(ProcessError) as caught:
        fleet.wait_until(lambda: False, "The moon", 0)
    assert str(caught.value) == f"The moon did not answer within 0 seconds; the logs are in {tmp_path / 'logs'}."


def test_a_signal_ends_the_waiting(fleet: Fleet, stop: Event) -> None:
    """A request to stop ends every wait, whatever is waited for."""
    stop.set()
    with pytest.raises(StopRequestedError):
        fleet.wait_until(lambda: False, "nothing", 30)
    fleet.watch()


@pytest.mark.slow
def test_the_whole_family_ends(fleet: Fleet) -> None:
    """What a process started ends with it, and nothing is left of either."""
    child = start(fleet, PARENT)
    assert len(child.session()) == 2
    fleet.end(())
    assert child.session() == []


@pytest.mark.slow
def test_orphans_end_too(fleet: Fleet) -> None:
    """What a process started is found and ended also when that process was killed before."""
    child = start(fleet, PARENT)
    child.process.kill()
    child.process.wait()
    assert len(child.session()) == 1
    fleet.end(())
    assert child.session() == []


def test_the_stubborn_is_killed(tmp_path: Path, stop: Event) -> None:
    """A process that ignores SIGTERM is killed when its grace is over."""
    fleet = Fleet(tmp_path, stop, grace_seconds=0.5)
    child = start(fleet, STUBBORN)
    fleet.end(())
    assert child.session() == []


def test_flow_runs_end_before_their_worker(fleet: Fleet, tmp_path: Path) -> None:
    """A flow run is told to end, and saves its state, before its worker, which would kill it, is."""
    saved = tmp_path / "saved"
    worker = start(fleet, WORKER, str(saved), RUN)
    fleet.end([worker])
    assert saved.read_text() == "saved"
    assert worker.session() == []


def test_children_hear_sigint_when_their_starter_would_not(fleet: Fleet) -> None:
    """A shell's background jobs ignore SIGINT; Prefect's worker must not inherit that, for it ends by SIGINT."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_on_signals():
            child = start(fleet, SLEEP)
            child.process.send_signal(signal.SIGINT)
            assert child.process.wait(30) != 0
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_requests_to_stop(number: signal.Signals) -> None:
    """Either signal sets the event, and the handlers of before come back."""
    before = signal.getsignal(number)
    with stop_on_signals() as stop:
        psutil.Process().send_signal(number)
        assert stop.wait(30)
    assert signal.getsignal(number) == before
