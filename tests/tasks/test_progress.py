"""How a training's progress is shown: a bar on a terminal, lines in a log."""

import os
import pty
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dcgan.checkpoint import EpochRecord
from dcgan.training import Progress
from tasks.progress import ProgressDisplay

ROOT = Path(__file__).parents[2]

PROGRAM = """
    import flows
    from dcgan.checkpoint import EpochRecord
    from dcgan.training import Progress
    from tasks.progress import ProgressDisplay

    with ProgressDisplay() as display:
        for epoch in (1, 2):
            for step in (5, 10):
                display.show(Progress(epoch, 2, step, 10, 64, 0.75, 1.25, 320.0))
            display.finish_epoch(EpochRecord(epoch=epoch, step=10 * epoch, finished_at=0, metrics={}))
"""


@pytest.mark.slow
def test_a_terminal_has_a_bar_for_each_epoch():
    """On a terminal each epoch leaves a line with its steps, both losses, the speed and the time left."""
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
        while part := os.read(leader, 4096):
            shown += part
    except OSError:
        pass  # Linux says so when the other end is closed
    os.close(leader)
    assert process.wait(60) == 0
    text = shown.decode()
    for words in (
        "epoch 1/2",
        "epoch 2/2",
        "10/10",
        "loss G 0.75 D 1.25",
        "320 images/s",
        "0:00:02 left",
        "0:00:00 left",
    ):
        assert words in text, words


def test_a_log_has_a_line_for_each_epoch(log):
    """Without a terminal an epoch is one line of the log."""
    figures = {"generator_loss": 0.5, "discriminator_loss": 1.5, "images_per_second": 320.4, "epoch_seconds": 2.04}
    with ProgressDisplay() as display:
        display.show(Progress(1, 2, 10, 10, 64, 0.5, 1.5, 320.0))
        display.finish_epoch(EpochRecord(epoch=1, step=10, finished_at=0, metrics=figures))
    expected = "Epoch 1: generator loss 0.500, discriminator loss 1.500, 320 images/s, 2.0 s."
    assert [record.message for record in log.records if record.name == "dcgan.train"] == [expected]
