"""One evaluation with its promotion at a time on one machine."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.promote import promotion_lock
from tasks.settings import Settings

ROOT = Path(__file__).parents[2]

LOCK = """
import flows
import sys
from tasks.promote import promotion_lock
from tasks.settings import Settings
with promotion_lock(Settings.read()):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_another_process_is_waited_for(state, monkeypatch):
    """While another process evaluates, this one logs that it waits; when the other has ended it continues."""
    logged = []
    with subprocess.Popen(
        [sys.executable, "-c", LOCK],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "locked\n"

        class EndOther(logging.Handler):
            """Ends the other process as soon as this one logs that it waits."""

            def emit(self, record):
                logged.append(record.getMessage())
                other.stdin.close()

        logger = logging.getLogger("dcgan.promote")
        monkeypatch.setattr(logger, "handlers", [EndOther()])
        monkeypatch.setattr(logger, "level", logging.INFO)
        with promotion_lock(Settings(DCGAN_STATE=state)):
            assert logged == ["Waiting for another process that evaluates or promotes a version."]
            assert other.wait(60) == 0
