"""An evaluation in MLflow: figures as metrics of the version's run, all of it as an artifact, the verdict as tags."""

import json
import logging
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from pydantic import ValidationError

from tasks.evaluation import Evaluation
from tasks.tracking.runs import RECORDED_EPOCHS, get_run
from tasks.tracking.store import Store, translated_errors
from tasks.tracking.versions import Version, tag_version

logger = logging.getLogger("dcgan.quality")

REPORT_FILE = "report/quality.json"
PAGE_FILE = "report/quality.html"
VERDICT = "dcgan.verdict"
VERDICT_REASON = "dcgan.verdict_reason"
VERDICT_CHAMPION = "dcgan.verdict_champion"
PASSED, FAILED, NOBODY = "passed", "failed", "none"


def record_evaluation(store: Store, version: Version, evaluation: Evaluation, page: str) -> None:
    """Put an evaluation and its page into MLflow; recording the same one again changes nothing.

    The tag that says whether the version passed comes last, so where it is, all of it is.
    """
    if version.run_id:
        _log_figures(store, version.run_id, evaluation)
        _log_report(store, version.run_id, evaluation, page)
    tag_version(store, version.number, _tags(evaluation))


def recorded_evaluation(store: Store, version: Version) -> Evaluation | None:
    """Return the evaluation whose verdict a version carries, None where it carries none."""
    if VERDICT not in version.tags or not version.run_id:
        return None
    with tempfile.TemporaryDirectory(prefix="dcgan-") as temporary:
        try:
            path = store.client.download_artifacts(version.run_id, REPORT_FILE, temporary)
            return Evaluation.model_validate_json(Path(path).read_bytes())
        except (MlflowException, OSError, ValidationError):
            logger.warning("The recorded evaluation of version %d cannot be read.", version.number)
            return None


def recorded_curves(store: Store, run_id: str, names: Iterable[str]) -> dict[str, dict[int, float]]:
    """Return the metrics that a run has among `names`, each by its steps."""
    recorded = get_run(store, run_id).data.metrics.keys()
    with translated_errors(store.uri):
        return {
            name: {metric.step: metric.value for metric in store.client.get_metric_history(run_id, name)}
            for name in names
            if name in recorded
        }


def _log_figures(store: Store, run_id: str, evaluation: Evaluation) -> None:
    """Log the candidate's figures at its last epoch, unless the run has some: MLflow cannot replace a metric."""
    run = get_run(store, run_id)
    figures = evaluation.candidate.metrics()
    if figures.keys() <= run.data.metrics.keys():
        return
    step = int(run.data.tags.get(RECORDED_EPOCHS, 0))
    with translated_errors(store.uri):
        milliseconds = round(time.time() * 1000)
        store.client.log_batch(run_id, [Metric(name, value, milliseconds, step) for name, value in figures.items()])


def _log_report(store: Store, run_id: str, evaluation: Evaluation, page: str) -> None:
    with translated_errors(store.uri):
        store.client.log_text(run_id, page, PAGE_FILE)
        store.client.log_dict(run_id, json.loads(evaluation.model_dump_json()), REPORT_FILE)


def _tags(evaluation: Evaluation) -> dict[str, str]:
    quality, verdict = evaluation.candidate.quality, evaluation.verdict
    tags = {f"quality.{name}": str(figure) for name, figure in quality.estimates().items()}
    tags["judge.frechet_distance"] = str(evaluation.candidate.judge.frechet_distance)
    tags["quality.evaluator"] = quality.evaluator
    if verdict is None:
        return tags
    if verdict.champion:
        tags["quality.champion_frechet_distance"] = str(verdict.champion.frechet_distance)
    return {
        **tags,
        VERDICT_CHAMPION: str(evaluation.champion_version or NOBODY),
        VERDICT_REASON: verdict.reason,
        VERDICT: PASSED if verdict.passed else FAILED,
    }
