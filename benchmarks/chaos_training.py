"""A command as a victim: started as its user does, in a process group of its own, killed, and started again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.chaos_moments import EPOCHS, MILESTONES, Moment, Traces
from tasks.settings import CHECKOUT

POLL_SECONDS = 0.001
PATIENCE_SECONDS = 900.0
OTHERS = ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME", "DCGAN_STATE")


@dataclass(frozen=True)
class Place:
    """Where one training may write: its state folder, its temporary files, and its log."""

    root: Path

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.root / "state"

    @property
    def summary(self) -> Path:
        """The result as JSON."""
        return self.root / "summary.json"

    @property
    def temporary(self) -> Path:
        """The folder for what programs put into /tmp; it should be empty when a training has ended."""
        return self.root / "tmp"

    @property
    def log(self) -> Path:
        """All that the command said, every time."""
        return self.root / "log.txt"

    def environment(self) -> Mapping[str, str]:
        """Return the environment of a command that works here and knows no other server."""
        inherited = {name: value for name, value in os.environ.items() if name not in OTHERS}
        return {**inherited, "DCGAN_STATE": str(self.state), "TMPDIR": str(self.temporary), "PYTHONUNBUFFERED": "1"}


@dataclass
class Command:
    """A living command at a place, such as `flows.train --recipe smoke`."""

    place: Place
    arguments: Sequence[str]
    process: "subprocess.Popen[bytes]" = field(init=False)
    family: list[psutil.Process] = field(init=False, default_factory=list)
    began: float = field(init=False, default_factory=time.time)

    def __post_init__(self) -> None:
        self.place.temporary.mkdir(parents=True, exist_ok=True)
        with self.place.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.arguments],
                cwd=CHECKOUT,
                env=dict(self.place.environment()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def finish(self) -> int:
        """Wait for the end, and return the exit code."""
        return self.process.wait(PATIENCE_SECONDS)

    def timeline(self) -> list[float]:
        """Wait for the end, and return when each milestone was reached, in seconds since the start, and the end."""
        reached: list[float] = []
        while self.process.poll() is None:
            if len(reached) < len(MILESTONES) and MILESTONES[len(reached)].reached(Traces(self.place.state)):
                reached.append(time.time() - self.began)
            time.sleep(POLL_SECONDS)
        return [*reached, time.time() - self.began]

    def kill_at(self, moment: Moment, *, server_too: bool) -> bool:
        """Kill the whole process group by SIGKILL at a moment; return False when the command ended before it.

        The group is stopped first and then looked at, so what is killed is known to live and to be at that moment.
        """
        traces = Traces(self.place.state, self.began if moment.passes else 0.0)
        while self.process.poll() is None:
            if moment.reached(traces):
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(moment.delay)
                if self._stop() and (not moment.passes or moment.reached(traces)):
                    self._kill(server_too=server_too)
                    return True
                if self.process.poll() is None:
                    os.killpg(self.process.pid, signal.SIGCONT)
            time.sleep(POLL_SECONDS)
        return False

    def _stop(self) -> bool:
        """Stop the group where it stands; return False when it has ended."""
        if self.process.poll() is not None:
            return False
        os.killpg(self.process.pid, signal.SIGSTOP)
        leader = psutil.Process(self.process.pid)
        while (status := leader.status()) != psutil.STATUS_STOPPED:
            if status == psutil.STATUS_ZOMBIE:
                return False
        return True

    def _kill(self, *, server_too: bool) -> None:
        """Kill the stopped group; its Prefect server, in a session of its own, ends by itself or at once too."""
        self.family = psutil.Process(self.process.pid).children(recursive=True)
        os.killpg(self.process.pid, signal.SIGKILL)
        for child in self.family if server_too else []:
            child.kill()
        if (code := self.process.wait(PATIENCE_SECONDS)) != -signal.SIGKILL:
            raise AssertionError(f"the command ended with {code}, not by the kill")


def training(place: Place, resume: str = "auto") -> Command:
    """Start the training that is killed, or continue it."""
    summary = ("--summary", str(place.summary))
    what = ("--recipe", "smoke", "--epochs", str(EPOCHS), "--source", "bundled", "--resume", resume)
    return Command(place, ("flows.train", *what, *summary))
