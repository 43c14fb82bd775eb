"""A measuring process's side of the conversation with a measured one (see benchmarks/serving.py)."""

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

CHECKOUT = Path(__file__).resolve().parent.parent
SECONDS_PER_TURN = 1.5
PAUSE_SECONDS = 0.3  # lets the other processes' threads fall asleep


class Worker:
    """A process that takes training steps when it is told to.

    Args:
        python: the interpreter of its environment.
        module: what it runs, below benchmarks.peers.
        batch_size: of its steps.
        environment: variables on top of this process's own.
        arguments: what else it is told.
        steps: in a turn; None = as many as take about a second and a half.

    Attributes:
        versions: of the packages that compute.
        turns: seconds per step of every turn so far.
        peak_memory_mb: the most memory that it had held when it answered last.
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
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
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
        """Wait until it is warm, and find how many steps fill a turn."""
        self.versions = self._answer()["versions"]
        self._steps = self._steps or max(1, round(SECONDS_PER_TURN / self._measure(2)))
        return self

    def take_turn(self) -> None:
        """Let it take its steps, while nobody else does."""
        time.sleep(PAUSE_SECONDS)
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
        """End the process, which has nothing to save; a tf.data pipeline may take minutes to end by itself."""
        self._process.kill()
        self._process.communicate()
