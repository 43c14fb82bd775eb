"""The gate's verdicts on good, equal, worse and crippled candidates."""

import pytest
from pydantic import ValidationError

from dcgan.errors import ModelError
from dcgan.evaluation.gate import MARGIN, Evaluation, Verdict, VersionMetrics, decide, max_frechet_distance
from dcgan.evaluation.metrics import Estimate
from dcgan.evaluation.report import QualityReport


def _report(frechet=30.0, standard_error=0.5, **changes):
    def estimate(value, error=0.001):
        return Estimate(value=value, standard_error=error)

    fields = {
        "classifier": "e" * 64,
        "reference": "r" * 64,
        "images": 10_000,
        "frechet_distance": estimate(frechet, standard_error),
        "kernel_distance": estimate(3),
        "class_counts": (1000,) * 10,
        "reference_class_counts": (1000,) * 10,
        "class_divergence": estimate(0.01),
        "missing_classes": estimate(0, 0),
        "confidence": estimate(0.98),
        "low_confidence_fraction": estimate(0.05),
        "density": estimate(0.9),
        "coverage": estimate(0.8),
        "nearest_distance_ratio": estimate(1),
        "memorized_fraction": estimate(0.01),
    }
    return QualityReport(**{**fields, **changes})


def test_the_first_candidate_needs_no_champion(bundled_baselines):
    """With no champion, the conditions alone decide."""
    verdict = decide(_report(), None, bundled_baselines)
    assert verdict.passed
    assert verdict.reason == "There is no champion yet, and the candidate meets every condition."
    assert len(verdict.checks) == 4


def test_a_better_candidate_passes(bundled_baselines):
    """Better by more than two standard errors of the difference (0.71 each): the reason has both distances."""
    verdict = decide(_report(28.5), _report(30), bundled_baselines)
    assert verdict.passed
    assert verdict.reason == (
        "The candidate's Fréchet distance 28.5 ± 0.5 is below the champion's 30 ± 0.5 "
        "by more than 2 standard errors of their difference."
    )
    assert (verdict.candidate, verdict.champion) == (_report(28.5), _report(30))


@pytest.mark.parametrize("frechet", [30, 28.7, 35])
def test_a_candidate_that_is_not_significantly_better_is_rejected(bundled_baselines, frechet):
    """Equal, better within the standard error, or worse: the champion stays."""
    verdict = decide(_report(frechet), _report(30), bundled_baselines)
    assert not verdict.passed
    assert f"{frechet} ± 0.5 is not below the champion's 30 ± 0.5" in verdict.reason


def test_the_margin_is_in_standard_errors(bundled_baselines):
    """A little more than the margin passes, a little less does not."""
    errors = 0.5 * 2**0.5 * MARGIN
    assert decide(_report(30 - 1.01 * errors), _report(30), bundled_baselines).passed
    assert not decide(_report(30 - 0.99 * errors), _report(30), bundled_baselines).passed


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"missing_classes": 1}, "The candidate's number of missing classes is 1 ± 0; at most 0 is allowed."),
        ({"confidence": 0.5}, "The candidate's mean confidence is 0.5 ± 0; at least 0.75 is required."),
        (
            {"memorized_fraction": 0.4},
            "The candidate's fraction of memorized images is 0.4 ± 0; at most 0.05 is allowed.",
        ),
        ({"frechet_distance": 400}, "The candidate's Fréchet distance is 400 ± 0; at most 236.1 is allowed."),
    ],
)
@pytest.mark.parametrize("champion", [None, _report(1000)])
def test_a_broken_candidate_is_rejected(bundled_baselines, changes, sentence, champion):
    """One failed condition is enough, with no champion and with a much worse one, and is the only reason."""
    broken = {name: Estimate(value=value, standard_error=0) for name, value in changes.items()}
    verdict = decide(_report(**broken), champion, bundled_baselines)
    assert not verdict.passed
    assert verdict.reason == sentence
    assert [check.passed for check in verdict.checks].count(False) == 1


def test_all_failures_are_in_the_reason(bundled_baselines):
    """Several failed conditions are all named."""
    none = Estimate(value=0, standard_error=0)
    verdict = decide(_report(500, confidence=none), _report(30), bundled_baselines)
    assert verdict.reason.count("The candidate's") == 3


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"classifier": "f" * 64}, r"a different classifier \(ffffffffffff\) than the candidate \(eeeeeeeeeeee\)"),
        ({"reference": "s" * 64}, "different test images"),
        ({"images": 5000}, r"a different number of images \(5000\) than the candidate \(10000\)"),
    ],
)
def test_reports_that_do_not_compare_are_refused(bundled_baselines, changes, what):
    """Another classifier, other test images or another number of images: an error, not a verdict."""
    with pytest.raises(ModelError, match=f"{what}.*; evaluate the champion again"):
        decide(_report(), _report(90, **changes), bundled_baselines)


def test_a_verdict_is_a_value(bundled_baselines):
    """It is frozen, and converts to JSON and back."""
    verdict = decide(_report(28), _report(30), bundled_baselines)
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
    with pytest.raises(ValidationError):
        verdict.passed = False


def test_the_limit_of_the_distance_has_the_scale_of_the_classifier(bundled_baselines):
    """A quarter of an untrained generator's distance: above the blurred images', below the untrained generator's."""
    limit = max_frechet_distance(bundled_baselines)
    assert limit == bundled_baselines.untrained.frechet_distance.value / 4
    assert bundled_baselines.blurred.frechet_distance.value < limit


def _version(number, frechet):
    return VersionMetrics(version=number, selection=_report(frechet), held_out=_report(frechet / 2))


def _evaluation(baselines, candidate, champion, verdict, *, same_dataset=True):
    return Evaluation(
        dataset_digest="d" * 64,
        same_dataset=same_dataset,
        candidate=candidate,
        champion=champion,
        selection_baselines=baselines,
        held_out_baselines=baselines,
        verdict=verdict,
    )


def test_the_metrics_of_a_version_have_both_classifiers():
    """quality/NAME is the selection classifier's, quality_heldout/NAME the held-out classifier's."""
    metrics = _version(2, 30).metrics()
    assert len(metrics) == 2 * 10
    assert (metrics["quality/frechet_distance"], metrics["quality_heldout/frechet_distance"]) == (30, 15)


@pytest.mark.parametrize(
    ("frechet", "same_dataset", "end"),
    [
        (20, True, "To promote it: dcgan promote --version 2"),
        (40, True, "2 standard errors of their difference."),
        (20, False, "Version 2 was trained on other data, so nothing is recorded."),
    ],
)
def test_an_evaluation_says_what_follows(bundled_baselines, frechet, same_dataset, end):
    """Passed, not passed, or measured on other data than the version was trained on."""
    candidate, champion = _version(2, frechet), _version(1, 30)
    verdict = decide(candidate.selection, champion.selection, bundled_baselines)
    evaluation = _evaluation(bundled_baselines, candidate, champion, verdict, same_dataset=same_dataset)
    assert evaluation.sentence.startswith(verdict.reason)
    assert evaluation.sentence.endswith(end)
    assert evaluation.champion_version == 1
    assert Evaluation.model_validate_json(evaluation.model_dump_json()) == evaluation


def test_the_champion_has_no_verdict(bundled_baselines):
    """It is not compared with itself."""
    evaluation = _evaluation(bundled_baselines, _version(2, 30), None, None)
    assert evaluation.sentence == "Version 2 is the champion."
    assert evaluation.champion_version is None


@pytest.mark.parametrize("role", ["selection", "held_out"])
def test_the_columns_of_an_evaluation(bundled_baselines, role):
    """The version, the champion if there is one, and the baselines, as one classifier measured them."""
    candidate, champion = _version(2, 20), _version(1, 30)
    columns = _evaluation(bundled_baselines, candidate, champion, None).columns(role)
    baselines = ["training images", "noisy", "blurred", "untrained"]
    assert list(columns) == ["version 2", "champion 1", *baselines]
    assert columns["version 2"] == candidate.report(role)
    assert columns["champion 1"].frechet_distance.value == (30 if role == "selection" else 15)
    assert columns["training images"] == bundled_baselines.train
    assert list(_evaluation(bundled_baselines, candidate, None, None).columns(role)) == ["version 2", *baselines]
