"""The evaluation task: side by side with the champion, recorded once, and a verdict that nothing bad passes."""

import re
from pathlib import Path

import numpy as np
import pytest

from dcgan.errors import DataError, ModelError
from dcgan.evaluation.classifiers import StoredWeights, load_weights, save_weights, weights_digest
from dcgan.evaluation.examine import References
from dcgan.evaluation.gate import Evaluation
from tasks.evaluate import evaluate
from tasks.promote import promote_candidate, promote_version
from tests.registry import Registry, lookup_generator
from tests.service_stack import CHECKOUT
from tracking.tags import MODEL_NAME, REPORT_JSON, REPORT_PAGE


def run_of(registry: Registry, version: int):
    """Return the MLflow run of a version."""
    client = registry.context.store.client
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
    promotion = promote_candidate.fn(in_service.context, evaluation, "auto")
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
    promotion = promote_candidate.fn(registry.context, registry.evaluate(registry.add_crippled()), "auto")
    assert not promotion.promoted
    assert promotion.reason.endswith("There is still no champion.")
    assert registry.aliases() == {}


def test_both_are_evaluated_alike(in_service):
    """The champion's metrics beside a candidate equal its own evaluation: same latents, images and classifiers."""
    beside = in_service.better.champion
    assert beside == in_service.champion.candidate
    assert in_service.equal.candidate.selection == beside.selection


def test_everything_is_recorded_once(in_service):
    """Evaluated again: the same metrics, once in the run, and complete as an artifact, with the tags."""
    first = in_service.better
    assert in_service.evaluate(2) == first
    run = run_of(in_service, 2)
    client = in_service.context.store.client
    for name in ("quality/frechet_distance", "quality/missing_classes", "quality_heldout/coverage"):
        (metric,) = client.get_metric_history(run.info.run_id, name)
        assert (metric.value, metric.step) == (first.candidate.metrics()[name], 0)
    model = client.get_logged_model(client.get_model_version(MODEL_NAME, "2").source.removeprefix("models:/"))
    assert {metric.key: metric.value for metric in model.metrics} == first.candidate.metrics()
    assert {metric.dataset_name for metric in model.metrics} == {"digits-test"}
    report = Path(client.download_artifacts(run.info.run_id, REPORT_JSON))
    assert Evaluation.model_validate_json(report.read_bytes()) == first
    page = Path(client.download_artifacts(run.info.run_id, REPORT_PAGE)).read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert f"{run.info.run_name} ({run.info.run_id})" in page
    assert str(first.candidate.held_out.coverage) in page.replace("<small>", "")
    tags = in_service.tags(2)
    assert tags["quality.frechet_distance"] == str(first.candidate.selection.frechet_distance)
    assert tags["quality.classifier"] == first.candidate.selection.classifier
    assert first.candidate.held_out.classifier != first.candidate.selection.classifier


def test_the_model_card_gets_the_metrics(in_service):
    """They replace those of training in the description, which the run has as an artifact, too."""
    client, number = in_service.context.store.client, "2"
    card = "Generates digits.\n\n## Metrics\n\n| generator loss | 1 |\n\n## Loading it\n\nAs usual.\n"
    client.update_model_version(MODEL_NAME, number, description=card)
    evaluation = in_service.evaluate(2)
    run_id = client.get_model_version(MODEL_NAME, number).run_id
    description = client.get_model_version(MODEL_NAME, number).description
    assert f"| Fréchet distance | {evaluation.candidate.selection.frechet_distance} |" in description
    assert f"[All metrics](get-artifact?path=report%2Fquality.html&run_uuid={run_id})" in description
    assert "generator loss" not in description
    assert description.endswith("\n\n## Loading it\n\nAs usual.\n")
    artifact = Path(client.download_artifacts(run_id, "report/model-card.md")).read_text(encoding="utf-8")
    assert "[All metrics](quality.html)" in artifact
    assert artifact.splitlines()[-1] == "As usual."


def test_a_recorded_verdict_is_reused_while_it_is_valid(in_service):
    """A training run that resumes after a crash does not evaluate again, unless the champion has changed."""
    classifiers = in_service.context.settings.classifiers
    classifiers.rename(classifiers.with_name("away"))  # an evaluation would need them
    assert in_service.evaluate(3, again=False) == in_service.equal
    classifiers.with_name("away").rename(classifiers)
    promote_candidate.fn(in_service.context, in_service.better, "auto")
    assert in_service.evaluate(3, again=False).champion_version == 2


def test_a_copy_has_an_evaluation_of_its_own(in_service):
    """Two versions of one run share its report; only the one that was evaluated last is reused."""
    client = in_service.context.store.client
    copy = int(client.copy_model_version("models:/dcgan-generator/2", "dcgan-generator").version)
    assert in_service.evaluate(copy).candidate.version == copy
    assert in_service.evaluate(2, again=False).candidate.version == 2


def test_the_champion_is_not_its_own_rival(in_service):
    """Evaluated itself, the champion gets metrics and no new verdict."""
    evaluation = in_service.evaluate("champion")
    assert (evaluation.candidate.version, evaluation.champion, evaluation.verdict) == (1, None, None)
    assert in_service.tags(1)["dcgan.verdict"] == "passed"


def test_another_classifier_evaluates_the_champion_again(registry):
    """Metrics of two classifiers are never compared: the champion is measured anew, its old metrics are replaced."""
    before = registry.evaluate(registry.add_good())
    promote_candidate.fn(registry.context, before, "auto")
    file = registry.context.settings.classifiers / registry.dataset.digest / "selection.npz"
    stored = load_weights(file)
    arrays = {name: array * np.float16(1.25) for name, array in stored.arrays.items()}
    metadata = stored.metadata.model_copy(update={"weights_sha256": weights_digest(arrays)})
    save_weights(file, StoredWeights(metadata, arrays))
    evaluation = registry.evaluate(registry.add_better())
    champion, candidate = evaluation.champion.selection, evaluation.candidate.selection
    assert champion.classifier == candidate.classifier == metadata.weights_sha256
    assert champion.frechet_distance != before.candidate.selection.frechet_distance
    again = registry.evaluate("champion").candidate
    assert again.selection == champion
    assert run_of(registry, before.candidate.version).data.metrics.items() >= again.metrics().items()


def test_other_data_than_its_own_is_not_recorded(registry):
    """A version of another dataset is measured, but gets no verdict, no tags and no metrics."""
    version = registry.add_good(**{"dcgan.dataset_digest": "0" * 64})
    before = registry.tags(version)
    evaluation = registry.evaluate(version)
    assert "was trained on other data, so nothing is recorded." in evaluation.sentence
    assert registry.tags(version) == before
    assert run_of(registry, version).data.metrics == {}


def test_too_few_images_are_refused(in_service, pipeline):
    """With 600 and 100 images nothing can be measured: one sentence, and nothing is recorded or moved."""
    small = pipeline.prepare()
    before = in_service.tags(2)
    with pytest.raises(DataError) as refusal:
        evaluate.fn(in_service.context, 2, small, References(small, in_service.context.settings.classifiers))
    assert str(refusal.value) == "There are 600 training images; expected at least 1000."
    assert (in_service.tags(2), in_service.aliases()) == (before, {"champion": 1})


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "challenger",
            "has no alias challenger; expected the number of a version (the newest in STORE is 4), or an alias that "
            "one has.",
        ),
        (7, "has no version 7; expected the number of a version (the newest in STORE is 4)."),
        ("7", "has no version 7; expected the number of a version (the newest in STORE is 4)."),
    ],
)
def test_versions_that_are_not_there_are_named(in_service, name, sentence):
    """An unknown alias or number is one sentence, which names the store: it may be the wrong one."""
    with pytest.raises(ModelError) as refusal:
        in_service.evaluate(name)
    assert str(refusal.value) == f"The model {MODEL_NAME} {sentence.replace('STORE', in_service.context.store.uri)}"


def test_with_no_model_at_all_the_alias_is_missing(registry):
    """Before the first registration the sentence is the same."""
    with pytest.raises(ModelError, match="has no alias champion"):
        registry.evaluate("champion")


def test_a_generator_of_nothing_is_refused(registry):
    """Weights that are not finite give no images: the version is named, and nothing is recorded."""
    generator = lookup_generator(registry.digits[:50])
    generator.layers[-2].kernel.assign(np.full((50, 784), np.nan, np.float32))
    version = registry.register(generator)
    before = registry.tags(version)
    with pytest.raises(ModelError) as refusal:
        registry.evaluate(version)
    assert str(refusal.value) == (
        f"Version {version} cannot be evaluated: The generator returns values outside [-1, 1] or not finite; "
        "expected float32 (512, 28, 28, 1) from -1 to 1."
    )
    assert registry.tags(version) == before


def test_an_evaluation_that_is_killed_leaves_no_verdict(in_service, monkeypatch):
    """Evaluated again beside another champion, a version never has the new champion's name with the old verdict."""
    promote_version.fn(in_service.context, 3, force=True)
    client = in_service.context.store.client
    write, written = client.set_model_version_tag, []

    def write_until_killed(name, version, key, value):
        write(name, version, key, value)
        written.append(key)
        if key == "dcgan.verdict_champion":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(client, "set_model_version_tag", write_until_killed)
        with pytest.raises(KeyboardInterrupt):
            in_service.evaluate(2)
    assert in_service.tags(2)["dcgan.verdict_champion"] == "3"
    with pytest.raises(ModelError, match=r"^Version 2 has no verdict"):
        promote_version.fn(in_service.context, 2, force=False)


def test_the_documents_example(registry, tmp_path, capsys):
    """What docs/quality.md shows runs, and prints the two distances and what the gate says."""
    (example,) = re.findall(r"```python\n(.*?)```", (CHECKOUT / "docs" / "quality.md").read_text(), re.DOTALL)
    stored = lookup_generator(registry.digits)
    names = {
        "folder": registry.dataset.folder,
        "digest": registry.dataset.digest,
        "cache": registry.context.settings.classifiers,
        "generator": lambda latents: np.asarray(stored(latents)),
    }
    exec(example, names)  # noqa: S102 - this project's own
    distances, reason = capsys.readouterr().out.splitlines()
    assert len(distances.split("±")) == 3
    assert reason.startswith("There is no champion")
