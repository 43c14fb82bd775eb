"""The supervisor, on real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest

from operations.supervisor import ProcessError, Role, Service, StopRequestedError, Supervisor, stop_on_signals

SLEEP = "import time; print('ready', flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]).wait()"
# saves something at SIGTERM, as a flow run does
FLOW_RUN = """
import pathlib, signal, sys, time
def save(*_):
    pathlib.Path(sys.argv[1]).write_text("saved")
    raise SystemExit
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(60)
"""
# ends its flow run, which is in a session of its own, before itself
WORKER = """
import signal, subprocess, sys
flow_run = subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]], start_new_session=True)
def end(*_):
    flow_run.terminate()
    flow_run.wait()
    raise SystemExit
signal.signal(signal.SIGTERM, end)
flow_run.wait()
signal.pause()
"""


@pytest.fixture
def stop() -> Event:
    """Return the event that asks a supervisor to stop."""
    return Event()


@pytest.fixture
def supervisor(tmp_path: Path, stop: Event) -> Iterator[Supervisor]:
    """Yield a supervisor without processes; whatever a test leaves running is stopped."""
    supervisor = Supervisor(tmp_path / "logs", stop, grace_seconds=5)
    yield supervisor
    supervisor.stop()


def start(supervisor: Supervisor, program: str, *arguments: str, role: Role = Role.SERVER) -> Service:
    """Start a Python program, and return once it, or its child process, has printed that it is ready."""
    command = [sys.executable, "-c", program, *arguments]
    service = supervisor.start("service", command, os.environ, role)
    supervisor.wait_until(lambda: b"ready" in service.log.read_bytes(), "the service", 30)
    return service


def test_a_process_that_ends_is_reported(supervisor: Supervisor) -> None:
    """During every wait, the first process that ends is reported with its exit code and its log."""
    service = supervisor.start("service", [sys.executable, "-c", "print('oh'); exit(3)"], os.environ)
    with pytest.raises(ProcessError) as caught:
        supervisor.wait_until(lambda: False, "nothing", 30)
    assert str(caught.value) == f"service ended with exit code 3; its log is {service.log}."
    assert service.log.read_text() == "oh\n"


def test_the_log_of_the_last_start_is_kept(supervisor: Supervisor, tmp_path: Path) -> None:
    """Whoever starts everything again can still read why it ended."""
    for word in ("first", "second"):
        start(supervisor, f"print({word!r}); {SLEEP}")
    log = tmp_path / "logs" / "service.log"
    assert log.read_text() == "second\nready\n"
    assert log.with_name("service.log.1").read_text() == "first\nready\n"


def test_waiting_has_a_limit(supervisor: Supervisor, tmp_path: Path) -> None:
    """What never becomes ready is reported by its name."""
    with pytest.raises(ProcessError) as caught:
        supervisor.wait_until(lambda: False, "The moon", 0)
    assert str(caught.value) == f"The moon did not answer within 0 seconds; the logs are in {tmp_path / 'logs'}."


def test_a_signal_ends_every_wait(supervisor: Supervisor, stop: Event) -> None:
    """A request to stop ends the wait for readiness and the watch."""
    stop.set()
    with pytest.raises(StopRequestedError):
        supervisor.wait_until(lambda: False, "nothing", 30)
    supervisor.watch()


def test_a_process_starts_again(supervisor: Supervisor, stop: Event, tmp_path: Path) -> None:
    """While it is watched, a process that ends is started anew, without what it left behind."""
    count = tmp_path / "count"
    program = f"open({str(count)!r}, 'a').write('x'); {PARENT}"
    service = supervisor.start("service", [sys.executable, "-c", program], os.environ, restart=True)
    supervisor.wait_until(lambda: b"ready" in service.log.read_bytes(), "the service", 30)
    (orphan,) = [each for each in service.session() if each.pid != service.process.pid]
    service.process.kill()
    watching = Thread(target=supervisor.watch)
    watching.start()
    deadline = time.monotonic() + 30
    while service.log.read_bytes().count(b"ready") < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    watching.join()
    assert count.read_text() == "xx"
    assert service.log.read_bytes().count(b"ready") == 2
    assert not orphan.is_running()


def test_a_process_that_ends_before_it_is_ready_is_no_reason_to_wait(supervisor: Supervisor) -> None:
    """One that is to be restarted is reported all the same when it ends during the start."""
    supervisor.start("service", [sys.executable, "-c", "exit(3)"], os.environ, restart=True)
    with pytest.raises(ProcessError, match="service ended with exit code 3"):
        supervisor.wait_until(lambda: False, "nothing", 30)


def test_a_job_may_end(supervisor: Supervisor) -> None:
    """The end of a job is its success; with another exit code it is reported."""
    job = supervisor.start("job", [sys.executable, "-c", ""], os.environ, Role.JOB)
    supervisor.wait_until(lambda: job.process.poll() == 0, "the job", 30)
    supervisor.start("failure", [sys.executable, "-c", "exit(4)"], os.environ, Role.JOB)
    with pytest.raises(ProcessError, match="failure ended with exit code 4"):
        supervisor.wait_until(lambda: False, "nothing", 30)


@pytest.mark.slow
def test_child_processes_are_stopped_too(supervisor: Supervisor) -> None:
    """What a service started ends with it."""
    service = start(supervisor, PARENT)
    assert len(service.session()) == 2
    supervisor.stop()
    assert service.session() == []


@pytest.mark.slow
def test_orphans_are_stopped_too(supervisor: Supervisor) -> None:
    """What a service started is found and stopped even if the service itself was killed before."""
    service = start(supervisor, PARENT)
    service.process.kill()
    service.process.wait()
    assert len(service.session()) == 1
    supervisor.stop()
    assert service.session() == []


def test_a_process_that_has_the_number_of_an_ended_job_is_left_alone(supervisor: Supervisor) -> None:
    """The system gives numbers again; who has that of a job that ended hours ago is a stranger."""
    job = supervisor.start("job", [sys.executable, "-c", ""], os.environ, Role.JOB)
    job.process.wait()
    stranger = subprocess.Popen([sys.executable, "-c", SLEEP], stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        job.process.pid = stranger.pid
        supervisor.stop()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_process_that_keeps_ending_waits_longer(
    supervisor: Supervisor, stop: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The delay doubles up to a limit, and begins anew for a process that has lived long enough."""
    monkeypatch.setattr("operations.supervisor.FIRST_DELAY_SECONDS", 0.07)
    monkeypatch.setattr("operations.supervisor.LAST_DELAY_SECONDS", 0.3)
    service = supervisor.start("service", [sys.executable, "-c", ""], os.environ, restart=True)
    service.delay_seconds = 0.05
    watching = Thread(target=supervisor.watch)
    watching.start()
    try:
        seen = [0.05]
        for expected, stable_seconds in ((0.3, 1000), (0.07, 0)):
            monkeypatch.setattr("operations.supervisor.STABLE_SECONDS", stable_seconds)
            deadline = time.monotonic() + 30
            while seen[-1] != expected and time.monotonic() < deadline:
                if service.delay_seconds != seen[-1]:
                    seen.append(service.delay_seconds)
                time.sleep(0.005)
    finally:
        stop.set()
        watching.join()
    delays = [0.05, 0.1, 0.2, 0.3, 0.07]
    assert seen == [delay for delay in delays if delay in seen], "a short one may be missed, none comes out of order"
    assert {0.3, 0.07} < set(seen) - {0.05}


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path, stop: Event) -> None:
    """SIGKILL comes when the grace time is over."""
    supervisor = Supervisor(tmp_path, stop, grace_seconds=0.5)
    service = start(supervisor, STUBBORN)
    supervisor.stop()
    assert service.session() == []


def test_workers_end_before_servers(supervisor: Supervisor, tmp_path: Path) -> None:
    """A worker's flow run saves its state while there is a server to report to."""
    saved, reported = tmp_path / "saved", tmp_path / "reported"
    server = start(supervisor, FLOW_RUN, str(reported))
    worker = start(supervisor, WORKER, str(saved), FLOW_RUN, role=Role.WORKER)
    assert len(supervisor.flow_runs()) == 1
    supervisor.stop()
    assert saved.stat().st_mtime_ns < reported.stat().st_mtime_ns
    assert worker.session() == server.session() == []


def test_servers_end_before_stores(supervisor: Supervisor, tmp_path: Path) -> None:
    """What a server still writes at its end finds its database."""
    stored, served = tmp_path / "stored", tmp_path / "served"
    start(supervisor, FLOW_RUN, str(stored), role=Role.STORE)
    start(supervisor, FLOW_RUN, str(served))
    supervisor.stop()
    assert served.stat().st_mtime_ns < stored.stat().st_mtime_ns


def test_flow_runs_of_a_worker_that_died_are_stopped(supervisor: Supervisor, tmp_path: Path) -> None:
    """They are in sessions of their own and have no parent any more."""
    saved = tmp_path / "saved"
    worker = start(supervisor, WORKER, str(saved), FLOW_RUN, role=Role.WORKER)
    (flow_run,) = supervisor.flow_runs()
    worker.process.kill()
    worker.process.wait()
    supervisor.stop()
    assert saved.read_text() == "saved"
    assert not flow_run.is_running()


def test_nohup_outlives_the_terminal() -> None:
    """Whoever ignores SIGHUP keeps running when the terminal is closed."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            psutil.Process().send_signal(signal.SIGHUP)
            assert not stop.wait(0.5)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_processes_get_sigint_although_the_shell_ignores_it(supervisor: Supervisor) -> None:
    """A shell's background jobs ignore SIGINT; Prefect's worker, which ends by SIGINT, must not inherit that."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_on_signals():
            service = start(supervisor, SLEEP)
            service.process.send_signal(signal.SIGINT)
            assert service.process.wait(30) != 0
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_request_to_stop(number: signal.Signals) -> None:
    """Each signal sets the event, and the previous handlers come back."""
    inherited = signal.signal(number, signal.SIG_DFL)  # nohup's is to ignore SIGHUP
    try:
        with stop_on_signals() as stop:
            psutil.Process().send_signal(number)
            assert stop.wait(30)
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, inherited)
