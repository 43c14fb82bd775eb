"""Processes that live and end together: each has its own log, all are watched, and none is left behind.

docs/decisions/supervisor.md says why this is not a library.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from threading import Event

import psutil

from dcgan.errors import DcganError
from operations.command import print_line
from tasks.settings import CHECKOUT

POLL_SECONDS = 0.2
LOOK_SECONDS = 5.0  # between looks at the workers' flow runs, each of which reads all of the machine's processes
GRACE_SECONDS = 30.0  # between SIGTERM and SIGKILL, as Prefect gives its flow runs
REPORT_SECONDS = 10.0  # for a worker to report the end of its flow runs and to end itself
FIRST_DELAY_SECONDS, LAST_DELAY_SECONDS = (
    1.0,
    60.0,
)  # before a process starts again; it doubles for one that keeps ending
STABLE_SECONDS = 10.0  # a process that lived this long starts again without a longer delay


class ProcessError(DcganError):
    """A process ended by itself, or did not become ready in time."""


class StopRequestedError(Exception):
    """A signal asked this program to end."""


class Role(Enum):
    """What a process is to the others, which decides when it is stopped: workers first, stores last."""

    WORKER = "worker"
    SERVER = "server"
    STORE = "store"
    JOB = "job"  # ends by itself


STOP_ORDER = ((Role.WORKER,), (Role.JOB, Role.SERVER), (Role.STORE,))


@dataclass
class Service:
    """A started process and its log.

    Attributes:
        name: Its name, also that of its log.
        command: Its command line.
        environment: Its environment.
        log: The file of its output.
        role: What it is to the others.
        restart: Whether it is started again when it ends.
        process: The process; after a restart the newest one.
        started: When the process was started, on the monotonic clock.
        delay_seconds: How long the last restart waited.
        restart_at: When it is started again, on the monotonic clock; None while it runs.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    role: Role
    restart: bool
    process: subprocess.Popen[bytes]
    started: float
    delay_seconds: float = FIRST_DELAY_SECONDS
    restart_at: float | None = None

    def session(self) -> list[psutil.Process]:
        """Return every process of its session, also those that it left behind when it died."""
        if self.process.poll() is not None and psutil.pid_exists(self.process.pid):
            return []  # the number is another process's by now, which it only becomes when the session is empty
        return [process for process in psutil.process_iter() if _session_of(process.pid) == self.process.pid]

    def children(self) -> list[psutil.Process]:
        """Return its child processes; those of a worker are its flow runs, each in a session of its own."""
        if self.process.poll() is not None:  # its number may be another process's by now
            return []
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children()
        return []


class Supervisor:
    """Starts processes, waits until they are ready, watches them, and stops them in order.

    Args:
        logs: The folder of their logs, one for each name, and one of the start before, NAME.log.1.
        stop: The event that is set when this program is to end.
        grace_seconds: The time between SIGTERM and SIGKILL.
    """

    def __init__(self, logs: Path, stop: Event, grace_seconds: float = GRACE_SECONDS) -> None:
        self._logs = logs
        self._stop = stop
        self._grace_seconds = grace_seconds
        self._services: list[Service] = []
        self._flow_runs: set[psutil.Process] = set()
        logs.mkdir(parents=True, exist_ok=True)

    def start(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        role: Role = Role.SERVER,
        *,
        restart: bool = False,
    ) -> Service:
        """Start a process in the checkout, in a session of its own, so that Ctrl-C reaches only this program.

        Args:
            name: Its name, also that of its log.
            command: Its command line.
            environment: Its environment.
            role: What it is to the others.
            restart: Whether `watch` starts it again when it ends, instead of ending everything.
        """
        log = self._logs / f"{name}.log"
        if log.exists():  # of the last start, which may have ended for a reason that it says
            log.replace(log.with_name(f"{log.name}.1"))
        log.write_bytes(b"")
        process = _launch(command, environment, log)
        service = Service(name, command, environment, log, role, restart, process, time.monotonic())
        self._services.append(service)
        return service

    def wait_until(self, ready: Callable[[], bool], what: str, seconds: float) -> None:
        """Return as soon as `ready` returns True.

        Raises:
            ProcessError: `what` is not ready within `seconds`, or a process ended.
            StopRequestedError: A signal came first.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            self._check()
            if time.monotonic() > deadline:
                raise ProcessError(f"{what} did not answer within {seconds:.0f} seconds; the logs are in {self._logs}.")
            self._stop.wait(POLL_SECONDS)

    def watch(self) -> None:
        """Wait until a signal comes, and start again what is to be started again.

        Raises:
            ProcessError: Another process ended.
        """
        looked = -LOOK_SECONDS
        with suppress(StopRequestedError):
            while True:
                if time.monotonic() - looked > LOOK_SECONDS:
                    self.flow_runs()  # remembers them, should a worker die
                    looked = time.monotonic()
                self._restart_ended()
                self._check(restarting=True)
                self._stop.wait(POLL_SECONDS)

    def flow_runs(self) -> list[psutil.Process]:
        """Return the flow runs of the workers, also those that a worker left when it died, if they were seen before."""
        workers = [service for service in self._services if service.role is Role.WORKER]
        children = {flow_run for worker in workers for flow_run in worker.children()}
        self._flow_runs = children | {each for each in self._flow_runs if each.is_running()}
        return list(self._flow_runs)

    def stop(self) -> None:
        """Stop everything: workers first, while there are servers to report to, then servers and stores.

        A worker ends its flow runs before itself; those of one that has died before are ended here.
        """
        self.flow_runs()  # remembers them, should a worker not end by itself
        for roles in STOP_ORDER:
            services = [service for service in self._services if service.role in roles]
            processes = [process for service in services for process in service.session()]
            if Role.WORKER in roles:
                _terminate(processes, self._grace_seconds + REPORT_SECONDS)
                processes = self.flow_runs()
            _terminate(processes, self._grace_seconds)
        for service in self._services:
            service.process.wait()

    def _check(self, *, restarting: bool = False) -> None:
        if self._stop.is_set():
            raise StopRequestedError
        for service in self._services:
            code = service.process.poll()
            if code is None or (restarting and service.restart) or (code == 0 and service.role is Role.JOB):
                continue
            raise ProcessError(f"{service.name} ended with exit code {code}; its log is {service.log}.")

    def _restart_ended(self) -> None:
        now = time.monotonic()
        for service in self._services:
            if not service.restart or service.process.poll() is None:
                continue
            if service.restart_at is None:
                lived = now - service.started
                service.delay_seconds = (
                    FIRST_DELAY_SECONDS
                    if lived > STABLE_SECONDS
                    else min(2 * service.delay_seconds, LAST_DELAY_SECONDS)
                )
                service.restart_at = now + service.delay_seconds
            elif now >= service.restart_at:
                _terminate(service.session(), self._grace_seconds)  # child processes may still have its port
                service.process = _launch(service.command, service.environment, service.log)
                service.started, service.restart_at = now, None


@contextmanager
def supervised(logs: Path) -> Iterator[Supervisor]:
    """Yield a supervisor while the body runs, which signals end; then stop everything that it started.

    Args:
        logs: The folder of the logs.
    """
    with stop_on_signals() as stop:
        supervisor = Supervisor(logs, stop)
        try:
            with suppress(StopRequestedError):
                yield supervisor
        finally:
            if supervisor.flow_runs():
                print_line("Stopping; flow runs first.")
            supervisor.stop()


@contextmanager
def stop_on_signals() -> Iterator[Event]:
    """Yield an event that SIGINT, SIGTERM, and SIGHUP of a terminal that is closed set while the body runs.

    The handlers also keep child processes from inheriting an ignored SIGINT, which a shell's background jobs have.
    """
    stop = Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in stop_signals()}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_signals() -> list[signal.Signals]:
    """Return the signals that ask a program to end: SIGHUP is not one of them if nohup has it ignored."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *(() if ignored else (signal.SIGHUP,))]


def _terminate(processes: Sequence[psutil.Process], grace_seconds: float) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=grace_seconds)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=grace_seconds)


def _launch(command: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - the commands are this program's own
            command,
            cwd=CHECKOUT,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _session_of(pid: int) -> int | None:
    with suppress(OSError):
        return os.getsid(pid)
    return None
