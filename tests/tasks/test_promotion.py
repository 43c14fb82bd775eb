"""One evaluation with its promotion at a time on one machine."""

import logging
import os
import subprocess
import sys
from pathlib import Path

from tasks.promotion import one_at_a_time

ROOT = Path(__file__).parents[2]

HOLD = """
import flows
import sys
from tasks.promotion import one_at_a_time
with one_at_a_time():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_waited_for(state, monkeypatch):
    """While another process evaluates, this one says that it waits; when the other has gone it enters."""
    said = []
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "held\n"

        class Release(logging.Handler):
            """Lets the other process go as soon as this one says that it waits."""

            def emit(self, record):
                said.append(record.getMessage())
                other.stdin.close()

        logger = logging.getLogger("dcgan.promote")
        monkeypatch.setattr(logger, "handlers", [Release()])
        monkeypatch.setattr(logger, "level", logging.INFO)
        with one_at_a_time():
            assert said == ["Waiting for another process that evaluates or promotes a version."]
            assert other.wait(60) == 0
