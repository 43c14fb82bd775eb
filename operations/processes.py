"""Processes that live and end together: each with a log of its own, watched, and stopped without leaving one."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import psutil

from dcgan.errors import DcganError

POLL_SECONDS = 0.2
GRACE_SECONDS = 30.0  # what Prefect, too, gives a flow run between SIGTERM and SIGKILL


class ProcessError(DcganError):
    """A process ended by itself, or did not begin to answer."""


class StopRequestedError(Exception):
    """A signal asked this program to end."""


@dataclass(frozen=True)
class Child:
    """A started process and where it writes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def session(self) -> list[psutil.Process]:
        """Return the process and what it left in its session, also when it has died itself."""
        return [process for process in psutil.process_iter() if _session_of(process.pid) == self.process.pid]

    def started(self) -> list[psutil.Process]:
        """Return what the process itself has started; of a worker, its flow runs, which have sessions of their own."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children()
        return []


class Fleet:
    """The processes that one command starts, and ends with itself.

    Args:
        logs: the folder for their logs, one for each name, written anew.
        stop: set when this program is to end.
        grace_seconds: from asking a process to end until it is killed.
    """

    def __init__(self, logs: Path, stop: Event, grace_seconds: float = GRACE_SECONDS) -> None:
        self._logs = logs
        self._stop = stop
        self._grace_seconds = grace_seconds
        self._children: list[Child] = []
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Child:
        """Start a process in a session of its own, so that a Ctrl-C in the terminal reaches only this program."""
        log = self._logs / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - the commands are this program's own
                command,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def wait_until(self, ready: Callable[[], bool], what: str, seconds: float) -> None:
        """Return when `ready` says so.

        Raises:
            ProcessError: `what` is not ready within `seconds`, or a process ended.
            StopRequestedError: a signal came first.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            self._check()
            if time.monotonic() > deadline:
                raise ProcessError(f"{what} did not answer within {seconds:.0f} seconds; the logs are in {self._logs}.")
            self._stop.wait(POLL_SECONDS)

    def watch(self) -> None:
        """Wait until a signal comes.

        Raises:
            ProcessError: a process ended.
        """
        with suppress(StopRequestedError):
            while True:
                self._check()
                self._stop.wait(POLL_SECONDS)

    def end(self, workers: Iterable[Child]) -> None:
        """End every process: the flow runs of the workers first, while there are servers to report to, then the rest.

        A worker that is told to end kills its flow runs at once, so they are told before it, and it when they are gone.
        """
        workers = list(workers)
        self._end([run for worker in workers for run in worker.started()])
        self._end([member for worker in workers for member in worker.session()])
        self._end([member for child in self._children for member in child.session()])
        for child in self._children:
            child.process.wait()

    def _check(self) -> None:
        if self._stop.is_set():
            raise StopRequestedError
        for child in self._children:
            if (code := child.process.poll()) is not None:
                raise ProcessError(f"{child.name} ended with exit code {code}; its last words are in {child.log}.")

    def _end(self, processes: Sequence[psutil.Process]) -> None:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(processes, timeout=self._grace_seconds)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=self._grace_seconds)


@contextmanager
def stop_on_signals() -> Iterator[Event]:
    """Yield an event that SIGINT and SIGTERM set while the body runs.

    Handlers also see to it that children do not inherit an ignored SIGINT, as they would from a shell's background.
    """
    stop = Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _session_of(pid: int) -> int | None:
    with suppress(OSError):
        return os.getsid(pid)
    return None
