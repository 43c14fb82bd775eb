"""The benchmark of quality: when fast passes classic, and how both end, follow from their curves and reports."""

import pytest

from benchmarks.quality import compare, port_seconds, table


def report(distance: float) -> dict:
    return {"frechet_distance": {"value": distance, "noise": 0.1}}


def training(curve: list[float], evaluator: float, judge: float) -> dict:
    """Return the figures of a training whose epochs took ten seconds each."""
    bounds = {name: report(value) for name, value in (("floor", 2.0), ("noisy", 5), ("blurred", 6), ("untrained", 9))}
    return {
        "epochs": len(curve),
        "training_seconds": 10.0 * len(curve),
        "epoch_seconds": [10.0] * len(curve),
        "frechet_distance": curve,
        "evaluator": {"generator": report(evaluator), **bounds},
        "judge": {"generator": report(judge), **bounds},
        "verdict": "There is no champion yet.",
    }


def test_comparison_follows_from_the_curves():
    """Fast passes at its first epoch below the best of classic's; ends are compared by both classifiers."""
    trainings = {
        "fast, seed 0": training([300, 90, 40], evaluator=38, judge=9),
        "fast, seed 1": training([300, 290, 280], evaluator=280, judge=90),
        "classic, seed 0": training([400, 100, 200], evaluator=190, judge=45),
    }
    figures = compare(trainings, port=1000.0)
    assert figures["best_epoch_of_classic"] == 100
    assert figures["fast"] == {
        "fast, seed 0": {
            "seconds_to_pass": 20.0,
            "share_of_port": 0.02,
            "evaluator_over_classic": 0.2,
            "evaluator_over_floor": 19.0,
            "judge_over_classic": 0.2,
            "judge_over_floor": 4.5,
        },
        "fast, seed 1": {
            "seconds_to_pass": None,
            "share_of_port": None,
            "evaluator_over_classic": pytest.approx(1.474),
            "evaluator_over_floor": 140.0,
            "judge_over_classic": 2.0,
            "judge_over_floor": 45.0,
        },
    }
    assert table({"trainings": trainings}).row_count == 3 + 4


def test_the_port_needs_its_steps():
    """The plain port's time is that of 50 epochs of 234 whole batches at the speed that was measured."""
    step = {"recipes": {"classic": {"variants": {"Keras, as installed": {"images_per_second": 234 * 256 / 100}}}}}
    assert port_seconds(step) == 5000.0
