"""The evaluation task: a registered version and the champion side by side, and the gate's verdict."""

import logging
from typing import TYPE_CHECKING

from prefect import task

from dcgan.dataset import Manifest
from tasks.artifacts import publish
from tasks.evaluation import Evaluation
from tasks.evaluation_page import evaluation_page
from tasks.quality_page import quality_page
from tasks.quiet import import_tensorflow
from tasks.settings import read_settings

if TYPE_CHECKING:
    from dcgan.page.exhibits import Exhibits
    from tasks.tracking.store import Store
    from tasks.tracking.versions import Version

logger = logging.getLogger("dcgan.evaluate")


@task
def evaluate(name: int | str, dataset: Manifest, *, again: bool = True) -> Evaluation:
    """Evaluate a version beside the champion, let the gate decide, and record figures and verdict with the version.

    What is measured on other data than the version was trained on is shown but not recorded.

    Args:
        name: the version's number or alias.
        dataset: the prepared data set whose test half is compared with.
        again: False takes a verdict that the version carries already, if it is about the champion of now.

    Raises:
        ModelError: there is no such version, or it or the champion is not a generator that works.
        DataError: the data set is too small.
    """
    from tasks.tracking.quality import record_evaluation, recorded_evaluation
    from tasks.tracking.store import Store
    from tasks.tracking.versions import CHAMPION, aliased, resolve

    store = Store(read_settings())
    version, champion = resolve(store, name), aliased(store, CHAMPION)
    recorded = None if again else recorded_evaluation(store, version)
    if recorded and _still_holds(recorded, dataset, champion):
        return recorded
    evaluation, exhibits = _side_by_side(store, version, champion, dataset)
    if evaluation.counts:
        record_evaluation(store, version, evaluation, quality_page(store, version, dataset, evaluation, exhibits))
    publish(evaluation_page(evaluation), "evaluation", f"How good version {version.number} is")
    return evaluation


def _still_holds(recorded: Evaluation, dataset: Manifest, champion: "Version | None") -> bool:
    """Return whether a recorded verdict is about this data and the present champion, or made this champion."""
    number = champion.number if champion else None
    return recorded.dataset_digest == dataset.digest and number in (
        recorded.champion_version,
        recorded.candidate.version,
    )


def _side_by_side(
    store: "Store", version: "Version", champion: "Version | None", dataset: Manifest
) -> "tuple[Evaluation, Exhibits]":
    import_tensorflow()
    from dcgan.page.exhibits import exhibits
    from dcgan.quality.gate import decide, gate_for
    from tasks.examination import Examiner
    from tasks.tracking.generators import load_generator
    from tasks.tracking.runs import DATASET_DIGEST

    rival = champion if champion and champion.number != version.number else None
    generators = {each.number: load_generator(store, each) for each in (version, rival) if each}
    examiner = Examiner(dataset)
    (candidate, pairs), *others = (examiner.examine(number, generator) for number, generator in generators.items())
    beside = others[0].figures if others else None
    is_champion = champion is not None and rival is None
    gate = gate_for(examiner.quality_bounds)
    evaluation = Evaluation(
        dataset_digest=dataset.digest,
        counts=version.tags.get(DATASET_DIGEST, dataset.digest) == dataset.digest,
        candidate=candidate,
        champion=beside,
        quality_bounds=examiner.quality_bounds,
        judge_bounds=examiner.judge_bounds,
        verdict=None if is_champion else decide(candidate.quality, beside.quality if beside else None, gate),
    )
    return evaluation, exhibits(generators[version.number], version.seed, pairs)
