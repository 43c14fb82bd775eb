"""How the progress of training is shown, and what an evaluation shows: bars, log lines, Markdown."""

import os
import pty
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from dcgan.training.checkpoint import EpochRecord
from dcgan.training.loop import Progress
from tasks.prefect_ui import ProgressDisplay

ROOT = Path(__file__).parents[2]

PROGRAM = """
    import flows
    import numpy as np
    from dcgan.training.checkpoint import EpochRecord
    from dcgan.training.loop import Progress
    from tasks.prefect_ui import ProgressDisplay

    METRICS = {
        "generator_loss": 0.5, "discriminator_loss": 1.5, "images_per_second": 320.4, "epoch_seconds": 2.04,
        "frechet_distance": 4.5678,
    }
    with ProgressDisplay() as display:
        for epoch in (1, 2):
            for step in (5, 10):
                display.show(Progress(epoch, 2, step, 10, 64, 0.75, 1.25, 320.0))
            record = EpochRecord(epoch=epoch, step=10 * epoch, finished_at=0, metrics=METRICS)
            display.finish_epoch(record, np.zeros((112, 112), np.uint8))
"""


@pytest.mark.slow
def test_a_terminal_has_a_bar_for_each_epoch():
    """On a terminal each epoch leaves a line with its steps, losses, speed and Fréchet distance."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        stderr=follower,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "120", "TERM": "xterm"},
    )
    os.close(follower)
    shown = b""
    try:
        while block := os.read(leader, 4096):
            shown += block
    except OSError:
        pass  # Linux says so when the other end is closed
    os.close(leader)
    assert process.wait(60) == 0
    text = shown.decode()
    for words in (
        "epoch 1/2",
        "epoch 2/2",
        "10/10",
        "320 images/s",
        "Fréchet distance 4.568",
    ):
        assert words in text, words


def test_the_time_left_is_that_of_all_remaining_steps():
    """Fifteen of twenty steps of 64 images remain, at 320 images/s; with no speed yet nothing is estimated."""
    assert Progress(1, 2, 5, 10, 64, 0.5, 1.5, 320.0).seconds_left == 3
    assert Progress(1, 2, 5, 10, 64, 0.5, 1.5, 0.0).seconds_left is None


def test_a_log_has_a_line_for_each_epoch(log):
    """Without a terminal an epoch is one line of the log."""
    metrics = {"generator_loss": 0.5, "discriminator_loss": 1.5, "images_per_second": 320.4, "epoch_seconds": 2.04}
    with ProgressDisplay() as display:
        display.show(Progress(1, 2, 10, 10, 64, 0.5, 1.5, 320.0))
        record = EpochRecord(epoch=1, step=10, finished_at=0, metrics=metrics)
        display.finish_epoch(record, np.zeros((112, 112), np.uint8))
    expected = "Epoch 1 of 2: generator loss 0.500, discriminator loss 1.500, 320 images/s, 2.0 s, 0:00:02 left."
    assert [record.message for record in log.records if record.name == "dcgan.train"] == [expected]
