"""Both sides of the conversation between a measuring process and the measured ones.

A measured process makes its training step, runs a few steps to warm up, and writes `{"versions": ...}` on a line. Then
it reads lines with a number of steps, runs them, and answers each with `{"seconds": ..., "peak_memory_mb": ...}`.

Standard library only: PyTorch's environment has nothing else of this project.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

CHECKOUT = Path(__file__).resolve().parent.parent
SECONDS_PER_TURN = 1.5
PAUSE_SECONDS = 0.3  # lets the other processes' threads fall asleep
WARM_UP_STEPS = 3
CALIBRATION_STEPS = 2


class Worker:
    """A process that runs training steps on request.

    Args:
        python: The interpreter of its environment.
        module: The module to run, below benchmarks.peers.
        batch_size: Images in a batch.
        environment: Environment variables on top of this process's own.
        arguments: Further arguments of the module.
        steps: Steps in a turn; None takes as many as fill about a second and a half.

    Attributes:
        versions: Versions of the packages that compute.
        turns: Seconds per step of every turn so far.
        peak_memory_mb: The process's peak memory when it answered last.
    """

    def __init__(
        self,
        python: Path | str,
        module: str,
        batch_size: int,
        environment: Mapping[str, str],
        arguments: Sequence[str] = (),
        steps: int | None = None,
    ) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [python, "-m", f"benchmarks.peers.{module}", str(batch_size), *arguments],
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONPATH": _with_checkout(), "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.versions: dict[str, str] = {}
        self.turns: list[float] = []
        self.peak_memory_mb = 0.0
        self._steps = steps

    def __enter__(self) -> Self:
        """Wait until it is warm."""
        self.versions = self._answer()["versions"]
        return self

    def take_turn(self) -> None:
        """Let it run its steps while no other process does; before the first turn, find how many steps fill one."""
        time.sleep(PAUSE_SECONDS)
        self._steps = self._steps or max(1, round(SECONDS_PER_TURN / self._measure(CALIBRATION_STEPS)))
        self.turns.append(self._measure(self._steps))

    def _measure(self, steps: int) -> float:
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        answer = self._answer()
        self.peak_memory_mb = answer["peak_memory_mb"]
        return answer["seconds"] / steps

    def _answer(self) -> dict:
        if line := self._process.stdout.readline():
            return json.loads(line)
        raise RuntimeError(f"{self._module} ended before it answered: {self._process.stderr.read()[-2000:]}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Kill the process, which has nothing to save; a tf.data pipeline may take minutes to end by itself."""
        self._process.kill()
        self._process.communicate()


def _with_checkout() -> str:
    return os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])


def serve(make: Callable[..., Callable[[int], None]], versions: dict[str, str]) -> None:
    """Answer a measuring process until the end of the input.

    Args:
        make: Takes the batch size and the other arguments of the command line, and returns a function that runs a
            number of steps and returns when all of them are finished.
        versions: Versions of the packages that compute.
    """
    batch_size, *rest = sys.argv[1:]
    run = make(int(batch_size), *rest)
    run(WARM_UP_STEPS)
    print(json.dumps({"versions": versions}), flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        run(int(line))
        answer = {"seconds": time.perf_counter() - began, "peak_memory_mb": _peak_memory_mb()}
        print(json.dumps(answer), flush=True)


def _peak_memory_mb() -> float:
    """Return the peak resident memory of this process, in MB (10⁶ bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
