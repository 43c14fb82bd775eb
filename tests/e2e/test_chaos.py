"""The short form of `make chaos`: real trainings, killed and continued, against one that was never killed."""

import json
import os
import subprocess
import sys

import pytest

from tests.desk import CHECKOUT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def test_killed_trainings_end_like_the_one_never_killed(tmp_path):
    """Three trainings, two of them killed twice, and a promotion: the same bits, one run, one version, nothing left."""
    result = tmp_path / "chaos.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.chaos", "--runs", "3", "--seed", "1", "--output", result],
        cwd=CHECKOUT,
        env={**os.environ, "DCGAN_STATE": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    trials = json.loads(result.read_text())["trials"]
    assert [trial["verdict"] for trial in trials] == ["same"] * 4
    assert [len(trial["deaths"]) for trial in trials] == [1, 2, 2, 1]
