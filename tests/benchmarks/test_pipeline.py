"""The benchmark of the pipeline: what it reads from a command's log and summary."""

import time

import pytest

from benchmarks.pipeline import flow_began, starting_stages

LOG = """Starting
{clock}.250 | INFO    | Flow run 'a' - Beginning flow run 'a' for flow 'dcgan'
11:00:00.000 | INFO    | dcgan.train - Epoch 1
"""


@pytest.mark.parametrize("seconds", [2, 90_000], ids=["same day", "a day later, which a time of day cannot show"])
def test_the_flows_beginning_is_read_from_the_log(seconds):
    """The log has the local time of day, to the millisecond."""
    began = time.mktime((2026, 11, 24, 12, 0, 0, 0, 0, -1))
    clock = time.strftime("%H:%M:%S", time.localtime(began + seconds))
    assert flow_began(LOG.format(clock=clock), began) == pytest.approx(seconds % 86_400 + 0.25)


def test_a_start_over_midnight_is_not_negative():
    """A command that starts before midnight may begin its flow after it."""
    began = time.mktime((2026, 11, 24, 23, 59, 59, 0, 0, -1))
    assert flow_began(LOG.format(clock="00:00:01"), began) == pytest.approx(2.25)


def test_stages_add_up_to_the_start():
    """Imports, data and the rest are what passes before the first step; compiling comes after it."""
    run = {
        "seconds_to_flow": 5.0,
        "seconds_to_first_step": 18.0,
        "seconds": {"download": 0.5, "prepare": 1.5, "train": 9.0},
        "records": [{"metrics": {"overhead_seconds": 3.0}}, {"metrics": {"overhead_seconds": 0.1}}],
    }
    assert starting_stages(run) == {
        "imports_and_prefect": 5.0,
        "data": 2.0,
        "mlflow_tensorflow_and_networks": 11.0,
        "compiling": 3.0,
    }
