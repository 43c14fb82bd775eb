"""The benchmark of quality: when `fast` passes `classic`, and how both end, follow from their curves and reports."""

import pytest

from benchmarks.quality import compare, port_seconds


def report(distance: float) -> dict:
    return {"frechet_distance": {"value": distance, "standard_error": 0.1}}


def run(curve: list[float], selection: float, held_out: float) -> dict:
    """Return the summary of a training run whose epochs took ten seconds each."""
    return {
        "epoch_seconds": [10.0] * len(curve),
        "frechet_distance": curve,
        "selection": {"generator": report(selection), "train": report(2.0)},
        "held_out": {"generator": report(held_out), "train": report(2.0)},
    }


def test_comparison_follows_from_the_curves():
    """Fast passes in its first epoch below the best of classic's; the ends are compared by both classifiers."""
    runs = {
        "fast, seed 0": run([300, 90, 40], selection=38, held_out=9),
        "fast, seed 1": run([300, 290, 280], selection=280, held_out=90),
        "classic, seed 0": run([400, 100, 200], selection=190, held_out=45),
    }
    comparison = compare(runs, port=1000.0)
    assert comparison["best_epoch_of_classic"] == 100
    assert comparison["fast"] == {
        "fast, seed 0": {
            "seconds_to_pass": 20.0,
            "fraction_of_port": 0.02,
            "selection_over_classic": 0.2,
            "selection_over_train": 19.0,
            "held_out_over_classic": 0.2,
            "held_out_over_train": 4.5,
        },
        "fast, seed 1": {
            "seconds_to_pass": None,
            "fraction_of_port": None,
            "selection_over_classic": pytest.approx(1.474),
            "selection_over_train": 140.0,
            "held_out_over_classic": 2.0,
            "held_out_over_train": 45.0,
        },
    }


def test_time_of_the_port_follows_from_its_speed():
    """The plain port's time is that of 50 epochs of 234 full batches at the measured speed."""
    step = {"recipes": {"classic": {"variants": {"Keras, as installed": {"images_per_second": 234 * 256 / 100}}}}}
    assert port_seconds(step) == 5000.0
