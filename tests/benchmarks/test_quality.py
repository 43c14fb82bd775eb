"""The benchmark of quality: when `fast` passes `classic`, and how both end, follow from their curves and reports."""

import pytest

from benchmarks.quality import compare


def report(distance: float) -> dict:
    return {"frechet_distance": {"value": distance, "standard_error": 0.1}}


def run(recipe: str, curve: list[float], selection: float, held_out: float) -> dict:
    """Return the summary of a training run."""
    return {
        "recipe": recipe,
        "frechet_distance": curve,
        "selection": {"generator": report(selection), "train": report(2.0)},
        "held_out": {"generator": report(held_out), "train": report(2.0)},
    }


def test_comparison_follows_from_the_curves():
    """Fast passes in its first epoch below the best of classic's; the ends are compared by both classifiers."""
    runs = {  # in whatever order: a run that is measured again may come last
        "fast, seed 0": run("fast", [300, 90, 40], selection=38, held_out=9),
        "classic, seed 0": run("classic", [400, 100, 200], selection=190, held_out=45),
        "fast, seed 1": run("fast", [300, 290, 280], selection=280, held_out=90),
    }
    comparison = compare(runs)
    assert comparison["best_epoch_of_classic"] == 100
    assert comparison["fast"] == {
        "fast, seed 0": {
            "epoch_that_passed": 2,
            "selection_over_classic": 0.2,
            "selection_over_train": 19.0,
            "held_out_over_classic": 0.2,
            "held_out_over_train": 4.5,
        },
        "fast, seed 1": {
            "epoch_that_passed": None,
            "selection_over_classic": pytest.approx(1.474),
            "selection_over_train": 140.0,
            "held_out_over_classic": 2.0,
            "held_out_over_train": 45.0,
        },
    }
