"""The gate's verdicts on good, equal, worse and crippled candidates."""

import pytest
from pydantic import ValidationError

from dcgan.errors import ModelError
from dcgan.quality.bounds import Bounds
from dcgan.quality.evaluator import BUNDLED
from dcgan.quality.gate import Gate, Verdict, decide, gate_for
from dcgan.quality.noise import Estimate
from dcgan.quality.report import QualityReport
from dcgan.quality.stored_weights import load_weights


def _report(frechet=30.0, noise=0.5, **changes):
    def figure(value, error=0.001):
        return Estimate(value=value, noise=error)

    fields = {
        "evaluator": "e" * 64,
        "reference": "r" * 64,
        "images": 10_000,
        "frechet_distance": figure(frechet, noise),
        "kernel_distance": figure(3),
        "class_counts": (1000,) * 10,
        "class_divergence": figure(0.01),
        "missing_classes": figure(0, 0),
        "confidence": figure(0.98),
        "unsure_share": figure(0.05),
        "density": figure(0.9),
        "coverage": figure(0.8),
        "nearest_distance_ratio": figure(1),
        "copied_share": figure(0.01),
    }
    return QualityReport(**{**fields, **changes})


@pytest.fixture
def bundled_bounds():
    """What MNIST's images of known quality get from the bundled evaluator."""
    digest = load_weights(BUNDLED / "evaluator.npz").card.weights_sha256[:16]
    (file,) = BUNDLED.glob(f"bounds-{digest}-*.json")
    return Bounds.model_validate_json(file.read_bytes())


def test_the_first_candidate_needs_no_champion():
    """With no champion, the conditions alone decide."""
    verdict = decide(_report(), None, Gate())
    assert verdict.passed
    assert verdict.reason == "There is no champion yet, and the candidate meets every condition."
    assert len(verdict.checks) == 4


def test_a_better_candidate_passes():
    """Better by more than two standard errors of the difference (0.71 each): the reason has both figures."""
    verdict = decide(_report(28.5), _report(30), Gate())
    assert verdict.passed
    assert verdict.reason == (
        "The candidate's Fréchet distance 28.5 ± 0.5 is below the champion's 30 ± 0.5 "
        "by more than 2 standard errors of their difference."
    )
    assert (verdict.candidate, verdict.champion) == (_report(28.5), _report(30))


@pytest.mark.parametrize("frechet", [30, 28.7, 35])
def test_a_candidate_that_is_not_better_beyond_the_noise_stays_out(frechet):
    """Equal, better within the noise, or worse: the champion stays."""
    verdict = decide(_report(frechet), _report(30), Gate())
    assert not verdict.passed
    assert f"{frechet} ± 0.5 is not below the champion's 30 ± 0.5" in verdict.reason


def test_an_equal_candidate_stays_out_without_any_margin():
    """The champion's own figures never replace it."""
    assert not decide(_report(), _report(), Gate(margin=0)).passed


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"missing_classes": 1}, "The candidate's number of missing classes is 1 ± 0; at most 0 is allowed."),
        ({"confidence": 0.5}, "The candidate's mean confidence is 0.5 ± 0; at least 0.75 is demanded."),
        ({"copied_share": 0.4}, "The candidate's share of images that are copies is 0.4 ± 0; at most 0.05 is allowed."),
        ({"frechet_distance": 400}, "The candidate's Fréchet distance is 400 ± 0; at most 250 is allowed."),
    ],
)
@pytest.mark.parametrize("champion", [None, _report(1000)])
def test_a_crippled_candidate_stays_out(changes, sentence, champion):
    """One condition that fails is enough, with no champion and with a much worse one, and is the whole reason."""
    broken = {name: Estimate(value=value, noise=0) for name, value in changes.items()}
    verdict = decide(_report(**broken), champion, Gate())
    assert not verdict.passed
    assert verdict.reason == sentence
    assert [check.passed for check in verdict.checks].count(False) == 1


def test_every_failure_is_said():
    """Several conditions that fail all stand in the reason."""
    none = Estimate(value=0, noise=0)
    verdict = decide(_report(500, confidence=none), _report(30), Gate())
    assert verdict.reason.count("The candidate's") == 3


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"evaluator": "f" * 64}, r"another evaluator \(ffffffffffff\) than the candidate's \(eeeeeeeeeeee\)"),
        ({"reference": "s" * 64}, "another test images"),
        ({"images": 5000}, r"another number of images \(5000\) than the candidate's \(10000\)"),
    ],
)
def test_figures_that_do_not_compare_are_refused(changes, what):
    """Another evaluator, other test images or another number of images: an error, not a verdict."""
    with pytest.raises(ModelError, match=f"{what}.*; evaluate the champion again"):
        decide(_report(), _report(90, **changes), Gate())


def test_a_verdict_is_a_value():
    """It is frozen, and JSON keeps it."""
    verdict = decide(_report(28), _report(30), Gate())
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
    with pytest.raises(ValidationError):
        verdict.passed = False


def test_the_bound_on_the_distance_has_the_classifiers_scale(bundled_bounds):
    """A quarter of an untrained generator's distance: above the blurred images', below the untrained generator's."""
    limit = gate_for(bundled_bounds).max_frechet_distance
    assert limit == bundled_bounds.untrained.frechet_distance.value / 4
    assert bundled_bounds.blurred.frechet_distance.value < limit
