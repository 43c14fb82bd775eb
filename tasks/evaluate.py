"""The evaluation task: a registered version and the champion side by side, and the gate's verdict."""

import logging
from datetime import UTC, datetime
from pathlib import Path

from dcgan.data.dataset import Dataset
from dcgan.data.idx import MNIST_DIGEST
from dcgan.evaluation.examine import Examined, Examiner, References
from dcgan.evaluation.gate import Evaluation
from dcgan.generation import Generator
from dcgan.report.model_card import with_evaluation
from dcgan.report.render import ReportPage, SampleImages, render_report, sample_images, shown_metrics
from tasks.context import Context
from tasks.prefect_ui import publish_evaluation
from tasks.retries import recording_task
from tracking.evaluations import RecordedTraining, record_evaluation, recorded_evaluation, recorded_training
from tracking.lease import Lease
from tracking.registry import Version, aliased, get_description, load_generator, resolve, set_description
from tracking.runs import artifact_link, artifact_paths, get_run, upload_text, with_relative_links
from tracking.store import Store
from tracking.tags import ANIMATION, CHAMPION, DATASET_SOURCE, MODEL_CARD, MODEL_NAME, PLAYGROUND, REPORT, REPORT_PAGE

logger = logging.getLogger("dcgan.evaluate")


@recording_task
def evaluate(
    context: Context,
    name: int | str,
    dataset: Dataset,
    references: References,
    *,
    again: bool = True,
    lease: Lease | None = None,
) -> Evaluation:
    """Evaluate a version beside the champion, let the gate decide, and record metrics and verdict with the version.

    Metrics on other data than the version was trained on are shown but not recorded.

    Args:
        context: Settings and store.
        name: Number or alias of the version.
        dataset: The prepared dataset whose test images are the reference.
        references: Its test images in the features of both classifiers.
        again: False reuses a recorded verdict, if it compares with the current champion.
        lease: The lease on the training run that asks for it.

    Raises:
        LeaseLostError: Another process has taken over the training run.
        ModelError: There is no such version, or it or the champion is not a working generator.
        DataError: The dataset is too small.
    """
    if lease:
        lease.require()
    store = context.store
    version, champion = resolve(store, name), aliased(store, CHAMPION)
    recorded = None if again else recorded_evaluation(store, version)
    if recorded and _is_current(recorded, dataset, champion):
        return recorded
    evaluation, samples = _side_by_side(context, version, champion, dataset, references)
    if lease:  # to evaluate takes a while
        lease.require()
    url = None
    if evaluation.same_dataset:
        _update_model_card(store, version, evaluation)
        run = get_run(store, version.run_id) if version.run_id else None
        training = recorded_training(store, run, dataset.manifest, shown_metrics())
        page = _report(context, version, training, evaluation, samples)
        record_evaluation(store, version, run, evaluation, page)
        if version.run_id:
            url = store.report_url(version.run_id)
            logger.info("The report is %s.", url or f"{REPORT_PAGE} of the MLflow run {version.run_id}")
    publish_evaluation(evaluation, url)
    return evaluation


def source_of(version: Version) -> str:
    """Return the source of the data that a version was trained on; `auto` where it is MNIST's, or not known."""
    return "auto" if version.dataset_digest in (None, MNIST_DIGEST) else version.tags.get(DATASET_SOURCE, "auto")


def _update_model_card(store: Store, version: Version, evaluation: Evaluation) -> None:
    """Put the metrics of the evaluation into the model card, which is the version's description and an artifact."""
    if not version.run_id:
        return
    before = get_description(store, version.number)
    card = with_evaluation(before, evaluation, artifact_link(version.run_id, REPORT_PAGE))
    if card != before:
        # the description last: killed in between, the next evaluation writes both
        upload_text(store, version.run_id, with_relative_links(card), MODEL_CARD)
        set_description(store, version.number, card)


def _is_current(recorded: Evaluation, dataset: Dataset, champion: Version | None) -> bool:
    """Return whether a recorded verdict is about this data and the current champion, or made this champion."""
    number = champion.number if champion else None
    return recorded.dataset_digest == dataset.digest and number in (
        recorded.champion_version,
        recorded.candidate.version,
    )


def _side_by_side(
    context: Context, version: Version, champion: Version | None, dataset: Dataset, references: References
) -> tuple[Evaluation, SampleImages]:
    is_champion = champion is not None and champion.number == version.number
    rival = None if is_champion else champion
    generators = {each.number: load_generator(context.store, each) for each in (version, rival) if each}
    shown = " beside ".join(f"version {number}" for number in generators)
    logger.info("Preparing the reference: the test images and the baselines.")
    examiner = Examiner(dataset, references, context.settings.classifiers)
    logger.info("Evaluating %s, with %s images each.", shown, f"{len(dataset.test[0]):,}")
    candidate, *others = (_examined(examiner, number, generator) for number, generator in generators.items())
    evaluation = examiner.compare(
        candidate.metrics,
        others[0].metrics if others else None,
        same_dataset=version.dataset_digest in (None, dataset.digest),
        is_champion=is_champion,
    )
    return evaluation, sample_images(generators[version.number], version.seed, candidate.pairs)


def _examined(examiner: Examiner, number: int, generator: Generator) -> Examined:
    examined = examiner.examine(number, generator)
    selection, held_out = (examined.metrics.report(role).frechet_distance for role in ("selection", "held_out"))
    logger.info("Version %d: Fréchet distance %s, by the held-out classifier %s.", number, selection, held_out)
    return examined


def _links(store: Store, version: Version) -> dict[str, str]:
    """Return what the report links; without a server, the files beside it in the run's folder."""
    if not version.run_id:
        return {}
    pages = {"MLflow run": store.run_url(version.run_id), "version in MLflow": store.version_url(version.number)}
    files = {"playground": PLAYGROUND, "model card": MODEL_CARD, "animation of the training": ANIMATION}
    there = artifact_paths(store, version.run_id, REPORT)
    beside = {
        name: store.artifact_url(version.run_id, path) or Path(path).name
        for name, path in files.items()
        if path in there
    }
    return {**{name: url for name, url in pages.items() if url}, **beside}


def _report(
    context: Context, version: Version, training: RecordedTraining, evaluation: Evaluation, samples: SampleImages
) -> str:
    """Return the HTML report of a version: where it came from, its samples, its metrics, and its training curves."""
    return render_report(
        ReportPage(
            title=f"{MODEL_NAME}, version {version.number}",
            made=datetime.now(UTC),
            facts=training.facts,
            links=_links(context.store, version),
            sentence=evaluation.verdict.reason if evaluation.verdict else evaluation.sentence,
            verdict=evaluation.verdict,
            selection=evaluation.columns("selection"),
            held_out=evaluation.columns("held_out"),
            samples=samples,
            history=training.curves,
            best_epoch=training.best_epoch,
        )
    )
