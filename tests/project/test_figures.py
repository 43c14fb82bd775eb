"""The figures of the README are those that the benchmarks wrote."""

import json
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def test_readme_times_are_the_benchmarks():
    """Each time in the README's table is the one in the benchmark's file, rounded to seconds."""
    readme = (CHECKOUT / "README.md").read_text()
    figures = json.loads((CHECKOUT / "benchmarks" / "results" / "pipeline.json").read_text())
    assert (figures["machine"]["cores"], figures["machine"]["processor"].startswith("Intel")) == (2, True)
    expected = {
        "`smoke`, the whole command": figures["smoke_seconds"],
        "from a command to its first step": figures["smoke_seconds_to_first_step"],
        "an epoch of `fast` (it has 10)": figures["recipes"]["fast"]["epoch_seconds"],
        "an epoch of `classic` (it has 50)": figures["recipes"]["classic"]["epoch_seconds"],
    }
    for what, seconds in expected.items():
        assert f"| {what} | {seconds:.0f} s |" in readme
