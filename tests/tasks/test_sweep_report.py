"""The table and the plot of a sweep's trials."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from imageio.v3 import imread

from tasks.results import SweepSummary, TrialResult
from tasks.sweep_report import csv_table, markdown_table, plot_png


def summary(*trials: TrialResult) -> SweepSummary:
    """Return the summary of a sweep with these trials."""
    return SweepSummary(name="fast-0a1b", run_id="a" * 32, trials=trials, tracking_uri="sqlite:///x", state_dir=Path())


def trial(number: int, distance: float | None = None, state: str = "finished", **point: object) -> TrialResult:
    """Return a trial at a point, with seed 0."""
    return TrialResult(
        number=number,
        state=state,
        point={**point, "seed": 0},
        frechet_distance=distance,
        generator_loss=0.5 + number,
        run_id=f"{number}" * 32,
    )


SEARCH = summary(
    trial(0, 9.25, beta_1=0.5, hidden_units=None),
    trial(1, None, "failed", beta_1=0.7, hidden_units=32),
    trial(2, 4.5, beta_1=0.3, hidden_units=32),
    trial(3, 70.0, "stopped", beta_1=0.9, hidden_units=32),
)


def test_the_sentence_counts_and_names_the_best():
    """A stopped trial is never the best, and one that was not evaluated neither."""
    best = "the best is trial 2 with beta_1=0.3, hidden_units=32, seed=0: Fréchet distance 4.5."
    assert SEARCH.sentence == f"2 of 4 trials finished, 1 failed, 1 stopped; {best}"
    assert summary(trial(0), trial(1, state="failed")).sentence == "1 of 2 trials finished, 1 failed."


def test_the_csv_has_a_row_for_each_trial():
    """In their order, with an empty cell for what is not known."""
    rows = list(csv.DictReader(io.StringIO(csv_table(SEARCH))))
    assert [row["trial"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["state"] for row in rows] == ["finished", "failed", "finished", "stopped"]
    assert [row["hidden_units"] for row in rows] == ["null", "32", "32", "32"]
    assert [row["frechet_distance"] for row in rows] == ["9.25", "", "4.5", "70"]
    assert rows[2]["run_id"] == "2" * 32


def test_the_markdown_begins_with_the_best():
    """Then come the others by distance, and last those without one."""
    lines = [line for line in markdown_table(SEARCH).splitlines() if line.startswith("| ")]
    assert lines[0] == "| trial | state | beta 1 | hidden units | seed | Fréchet distance | generator loss | run id |"
    assert [line.split(" | ")[0] for line in lines[1:]] == ["| 2", "| 0", "| 3", "| 1"]


@pytest.mark.parametrize(
    "shown",
    [
        SEARCH,
        summary(trial(0), trial(1)),
        summary(trial(0, state="failed").model_copy(update={"generator_loss": None})),
    ],
    ids=["search", "not evaluated", "nothing to draw"],
)
def test_the_plot_is_an_image(shown):
    """It is drawn for any sweep, also for one of which nothing is known yet."""
    image = imread(plot_png(shown))
    assert min(image.shape[:2]) > 200
    assert np.ptp(image) > 100


def test_the_plot_has_a_panel_for_each_number_that_varies():
    """A search over one more number is drawn wider; what is not a number in every trial has no panel."""
    one = imread(plot_png(summary(trial(0, 5.0), trial(1, 6.0))))
    two = imread(plot_png(summary(trial(0, 5.0, beta_1=0.5), trial(1, 6.0, beta_1=0.7))))
    assert two.shape[1] > 1.8 * one.shape[1]
    assert imread(plot_png(SEARCH)).shape == two.shape
