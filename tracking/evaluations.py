"""Evaluations in MLflow: metrics of the version's run, the report as artifacts, the verdict as tags of the version."""

import json
import logging
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mlflow.entities import Metric, Run
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT
from pydantic import ValidationError

from dcgan.data.dataset import Manifest
from dcgan.errors import TrackingError, UnavailableError, first_problem
from dcgan.evaluation.gate import Evaluation
from dcgan.files import first_line
from tracking.metrics import recorded_best_epoch, recorded_curves
from tracking.registry import Version, tag_version, untag_version
from tracking.runs import DIGEST_LENGTH, TEST_DATASET, artifact_paths
from tracking.store import Store, translated_errors
from tracking.tags import (
    DEVICE,
    FAILED,
    NO_CHAMPION,
    PASSED,
    RECIPE,
    RECORDED_EPOCHS,
    REPORT,
    REPORT_JSON,
    REPORT_PAGE,
    SEED,
    VERDICT,
    VERDICT_CHAMPION,
    VERDICT_REASON,
)

logger = logging.getLogger("dcgan.evaluate")

SHOWN_DIGITS = 12  # of a digest, for a reader


def record_evaluation(store: Store, version: Version, run: Run | None, evaluation: Evaluation, page: str) -> None:
    """Record an evaluation and its HTML report; recording the same one again changes nothing.

    The tag that says whether the version passed goes first and comes last: where it is set, everything is recorded, and
    of one evaluation. So a process that is killed leaves no verdict on another champion than its own.

    Args:
        store: The store.
        version: The version that was evaluated.
        run: The run that registered it, None where another tool did without one.
        evaluation: The evaluation.
        page: The report.
    """
    if evaluation.verdict:
        untag_version(store, version.number, VERDICT)
    if run:
        _log_metrics(store, run, version.model_id, evaluation)
        _log_report(store, run.info.run_id, evaluation, page)
    tag_version(store, version.number, _tags(evaluation))


def recorded_evaluation(store: Store, version: Version) -> Evaluation | None:
    """Return the evaluation whose verdict a version has as tags, None where it has none.

    A run has one report, also where a copy of its version was evaluated last.
    """
    if VERDICT not in version.tags or not version.run_id:
        return None
    found = evaluation_of_run(store, version.run_id)
    return found if found and found.candidate.version == version.number else None


def evaluation_of_run(store: Store, run_id: str) -> Evaluation | None:
    """Return the evaluation of a run's generator from its report, None where the run has none that can be read.

    Raises:
        UnavailableError: MLflow cannot serve it now.
    """
    if REPORT_JSON not in artifact_paths(store, run_id, REPORT):
        return None
    with tempfile.TemporaryDirectory(prefix="dcgan-") as temporary:
        try:
            with translated_errors(store.uri):
                path = store.client.download_artifacts(run_id, REPORT_JSON, temporary)
            return Evaluation.model_validate_json(Path(path).read_bytes())
        except UnavailableError:
            raise
        except (TrackingError, OSError) as error:
            reason = first_line(error)
        except ValidationError as error:
            reason = first_problem(error, REPORT_JSON)
    logger.warning("The recorded evaluation of the run %s cannot be used (%s); evaluate it again.", run_id, reason)
    return None


class RecordedTraining(NamedTuple):
    """What MLflow has of the training run of a version.

    Attributes:
        facts: Where the version came from, by name.
        curves: Metrics of the epochs, each by its epochs.
        best_epoch: The best epoch, None where none was evaluated.
    """

    facts: dict[str, str]
    curves: dict[str, dict[int, float]]
    best_epoch: int | None


def recorded_training(store: Store, run: Run | None, dataset: Manifest, names: Iterable[str]) -> RecordedTraining:
    """Return what is known of a version's training run; of a version that another tool registered it is less.

    Args:
        store: The store.
        run: The run, None where there is none.
        dataset: The dataset that the version is evaluated on.
        names: Names of the metrics to return.
    """
    if run is None:
        return RecordedTraining(_facts(None, dataset), {}, None)
    curves = recorded_curves(store, run.info.run_id, run.data.metrics, names)
    return RecordedTraining(_facts(run, dataset), curves, recorded_best_epoch(run))


def _facts(run: Run | None, dataset: Manifest) -> dict[str, str]:
    run_tags, params = (run.data.tags, run.data.params) if run else ({}, {})
    known = {
        "Recipe": run_tags.get(RECIPE),
        "Seed": run_tags.get(SEED),
        "Epochs": run_tags.get(RECORDED_EPOCHS),
        "Checkpoint selection": params.get("checkpoint_selection"),
        "Dataset": f"{dataset.source} ({dataset.digest[:SHOWN_DIGITS]})",
        "MLflow run": f"{run.info.run_name} ({run.info.run_id})" if run else None,
        "Code": run_tags.get(MLFLOW_GIT_COMMIT, "")[:SHOWN_DIGITS],
        "Device": run_tags.get(DEVICE),
    }
    return {name: value for name, value in known.items() if value}


def _log_metrics(store: Store, run: Run, model_id: str | None, evaluation: Evaluation) -> None:
    """Log the candidate's metrics for its run and its logged model, unless these values were logged last.

    They are at step 0, by which MLflow draws bars that compare runs instead of curves.
    """
    metrics = evaluation.candidate.metrics()
    if metrics.items() <= run.data.metrics.items():
        return
    milliseconds = round(time.time() * 1000)
    where = {
        "model_id": model_id,
        "dataset_name": TEST_DATASET,
        "dataset_digest": evaluation.dataset_digest[:DIGEST_LENGTH],
    }
    with translated_errors(store.uri):
        store.client.log_batch(
            run.info.run_id, [Metric(name, value, milliseconds, step=0, **where) for name, value in metrics.items()]
        )


def _log_report(store: Store, run_id: str, evaluation: Evaluation, page: str) -> None:
    with translated_errors(store.uri):
        store.client.log_text(run_id, page, REPORT_PAGE)
        store.client.log_dict(run_id, json.loads(evaluation.model_dump_json()), REPORT_JSON)


def _tags(evaluation: Evaluation) -> dict[str, str]:
    selection, verdict = evaluation.candidate.selection, evaluation.verdict
    tags = {f"quality.{name}": str(estimate) for name, estimate in selection.estimates().items()}
    tags["quality_heldout.frechet_distance"] = str(evaluation.candidate.held_out.frechet_distance)
    tags["quality.classifier"] = selection.classifier
    if verdict is None:
        return tags
    if verdict.champion:
        tags["quality.champion_frechet_distance"] = str(verdict.champion.frechet_distance)
    return {
        **tags,
        VERDICT_CHAMPION: str(evaluation.champion_version or NO_CHAMPION),
        VERDICT_REASON: verdict.reason,
        VERDICT: PASSED if verdict.passed else FAILED,
    }
