"""The evaluation task: side by side with the champion, recorded once, and a verdict that nothing bad passes."""

from pathlib import Path

import numpy as np
import pytest

from dcgan.errors import DataError, ModelError
from dcgan.quality.stored_weights import StoredWeights, load_weights, save_weights, weights_digest
from tasks.evaluate import evaluate
from tasks.evaluation import Evaluation
from tasks.evaluation_page import evaluation_page
from tasks.promote import promote_candidate
from tasks.settings import read_settings
from tasks.tracking.quality import PAGE_FILE, REPORT_FILE
from tasks.tracking.store import MODEL_NAME, Store
from tests.registry import picture_book


def run_of(version):
    """Return the MLflow run of a version."""
    client = Store(read_settings()).client
    return client.get_run(client.get_model_version(MODEL_NAME, str(version)).run_id)


@pytest.mark.parametrize(
    ("kind", "passed", "reason"),
    [
        ("better", True, "is below the champion's"),
        ("equal", False, "is not below the champion's"),
        ("crippled", False, "number of missing classes"),
    ],
)
def test_only_the_better_one_becomes_the_champion(in_service, kind, passed, reason):
    """Better: promoted, and the former champion is `previous`; equal or crippled: no alias moves."""
    evaluation = getattr(in_service, kind)
    version = evaluation.candidate.version
    promotion = promote_candidate.fn(evaluation, "auto")
    assert (promotion.version, promotion.promoted) == (version, passed)
    assert reason in promotion.reason
    assert in_service.aliases() == ({"champion": version, "previous": 1} if passed else {"champion": 1})
    tags = in_service.tags(version)
    assert tags["dcgan.verdict"] == ("passed" if passed else "failed")
    assert tags["dcgan.verdict_champion"] == "1"
    assert reason in tags["dcgan.verdict_reason"]
    assert tags.get("dcgan.promoted_by") == ("gate" if passed else None)


def test_the_first_one_that_is_good_becomes_the_champion(in_service):
    """With no champion the conditions alone decide."""
    assert in_service.champion.champion is None
    assert in_service.champion.verdict.passed
    assert in_service.tags(1)["dcgan.verdict_champion"] == "none"


def test_a_crippled_first_candidate_does_not_become_the_champion(registry):
    """Also with no champion the conditions hold."""
    promotion = promote_candidate.fn(evaluate.fn(registry.add_crippled(), registry.dataset), "auto")
    assert not promotion.promoted
    assert promotion.reason.endswith("There is still no champion.")
    assert registry.aliases() == {}


def test_both_see_the_same(in_service):
    """The champion's figures beside a candidate are those that it got itself: same latents, images and classifiers."""
    beside = in_service.better.champion
    assert beside == in_service.champion.candidate
    assert in_service.equal.candidate.quality == beside.quality


def test_everything_is_recorded_once(in_service):
    """Evaluated again: the same figures, once in the run as metrics, and whole as an artifact, with the tags."""
    first = in_service.better
    assert evaluate.fn(2, in_service.dataset) == first
    run = run_of(2)
    client = Store(read_settings()).client
    for name in ("quality/frechet_distance", "quality/frechet_distance_noise", "judge/coverage"):
        (metric,) = client.get_metric_history(run.info.run_id, name)
        assert (metric.value, metric.step) == (first.candidate.metrics()[name], 0)
    report = Path(client.download_artifacts(run.info.run_id, REPORT_FILE))
    assert Evaluation.model_validate_json(report.read_bytes()) == first
    page = Path(client.download_artifacts(run.info.run_id, PAGE_FILE)).read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert f"{run.info.run_name} ({run.info.run_id})" in page
    assert str(first.candidate.judge.coverage) in page.replace("<small>", "")
    tags = in_service.tags(2)
    assert tags["quality.frechet_distance"] == str(first.candidate.quality.frechet_distance)
    assert tags["quality.evaluator"] == first.candidate.quality.evaluator
    assert first.candidate.judge.evaluator != first.candidate.quality.evaluator


def test_the_page_has_every_figure(in_service):
    """The verdict in words, each figure of both classifiers beside the champion's and the bounds, and a pointer."""
    evaluation = in_service.better
    page = evaluation_page(evaluation)
    assert page.startswith(f"## Version 2 passed\n\n{evaluation.verdict.reason}\n")
    assert page.count("| figure | version 2 | champion 1 | training images | noisy | blurred | untrained |") == 2
    for who in ("quality", "judge"):
        row = " | ".join(str(report.coverage) for report in evaluation.columns(who).values())
        assert f"| coverage | {row} |" in page
    assert page.endswith("`report/quality.html` of the version's MLflow run.\n")


def test_a_recorded_verdict_is_taken_while_it_holds(in_service):
    """A training that goes on after a crash does not evaluate again, unless another version is the champion by then."""
    read_settings().evaluators.rename(read_settings().evaluators.with_name("away"))  # whoever evaluates would miss them
    assert evaluate.fn(3, in_service.dataset, again=False) == in_service.equal
    read_settings().evaluators.with_name("away").rename(read_settings().evaluators)
    promote_candidate.fn(in_service.better, "auto")
    assert evaluate.fn(3, in_service.dataset, again=False).champion_version == 2


def test_the_champion_is_not_its_own_rival(in_service):
    """Evaluated itself, the champion gets figures and no new verdict."""
    evaluation = evaluate.fn("champion", in_service.dataset)
    assert (evaluation.candidate.version, evaluation.champion, evaluation.verdict) == (1, None, None)
    assert evaluation_page(evaluation).startswith("## Version 1, the champion\n")
    assert in_service.tags(1)["dcgan.verdict"] == "passed"


def test_another_evaluator_evaluates_the_champion_again(in_service):
    """Figures of two evaluators are never compared: the champion's are made anew by the one that is there now."""
    file = read_settings().evaluators / in_service.dataset.digest / "evaluator.npz"
    stored = load_weights(file)
    arrays = {name: array * np.float16(1.25) for name, array in stored.arrays.items()}
    card = stored.card.model_copy(update={"weights_sha256": weights_digest(arrays)})
    save_weights(file, StoredWeights(card, arrays))
    evaluation = evaluate.fn(2, in_service.dataset)
    assert evaluation.champion.quality.evaluator == evaluation.candidate.quality.evaluator == card.weights_sha256
    assert evaluation.champion.quality.frechet_distance != in_service.champion.candidate.quality.frechet_distance


def test_other_data_than_its_own_is_not_recorded(registry):
    """A version of another data set is measured, but gets no verdict, no tags and no metrics."""
    version = registry.add_good(**{"dcgan.dataset_digest": "0" * 64})
    before = registry.tags(version)
    evaluation = evaluate.fn(version, registry.dataset)
    assert "was trained on other data, so nothing is recorded." in evaluation.sentence
    assert registry.tags(version) == before
    assert run_of(version).data.metrics == {}


def test_too_few_images_are_refused(in_service, pipeline):
    """With 600 and 100 images nothing can be said: one sentence, and nothing is recorded or moved."""
    small = pipeline.prepare()
    before = in_service.tags(2)
    with pytest.raises(DataError) as refusal:
        evaluate.fn(2, small)
    assert str(refusal.value) == "There are 600 training images; expected at least 1000."
    assert (in_service.tags(2), in_service.aliases()) == (before, {"champion": 1})


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("challenger", "has no alias challenger; expected the number of a version, or an alias that one has."),
        (7, "has no version 7; expected the number of a version."),
        ("7", "has no version 7; expected the number of a version."),
    ],
)
def test_versions_that_are_not_there_are_named(in_service, name, sentence):
    """An unknown alias or number is one sentence."""
    with pytest.raises(ModelError) as refusal:
        evaluate.fn(name, in_service.dataset)
    assert str(refusal.value) == f"The model {MODEL_NAME} {sentence}"


def test_with_no_model_at_all_the_alias_is_missing(registry):
    """Before the first training the sentence is the same."""
    with pytest.raises(ModelError, match="has no alias champion"):
        evaluate.fn("champion", registry.dataset)


def test_a_generator_of_nothing_is_refused(registry):
    """Weights that are not finite give no images: the version is named, and nothing is recorded."""
    generator = picture_book(registry.digits[:50])
    generator.layers[-2].kernel.assign(np.full((50, 784), np.nan, np.float32))
    version = registry.register(generator)
    before = registry.tags(version)
    with pytest.raises(ModelError) as refusal:
        evaluate.fn(version, registry.dataset)
    assert str(refusal.value) == (
        f"Version {version} cannot be evaluated: The generator gives values outside [-1, 1] or not finite; "
        "expected float32 (512, 28, 28, 1) from -1 to 1."
    )
    assert registry.tags(version) == before
