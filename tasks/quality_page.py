"""An evaluation as the HTML page that its run keeps: the values are gathered here, the library renders them."""

from typing import TYPE_CHECKING

from dcgan.dataset import Manifest
from tasks.evaluation import Evaluation

if TYPE_CHECKING:
    from dcgan.page.exhibits import Exhibits
    from tasks.tracking.store import Store
    from tasks.tracking.versions import Version

DIGITS = 12  # of a digest, for a reader


def quality_page(
    store: "Store", version: "Version", dataset: Manifest, evaluation: Evaluation, exhibits: "Exhibits"
) -> str:
    """Return the page of a version: where it came from, its pictures, its figures, and the curves of its training."""
    from dcgan.page.quality import QualityPage, render_page, shown_metrics
    from tasks.tracking.epoch_log import BEST_EPOCH
    from tasks.tracking.quality import recorded_curves
    from tasks.tracking.store import MODEL_NAME

    curves = recorded_curves(store, version.run_id, [*shown_metrics(), BEST_EPOCH]) if version.run_id else {}
    best = curves.pop(BEST_EPOCH, {})
    page = QualityPage(
        title=f"{MODEL_NAME}, version {version.number}",
        facts=_facts(store, version, dataset),
        sentence=evaluation.verdict.reason if evaluation.verdict else evaluation.sentence,
        verdict=evaluation.verdict,
        evaluator=evaluation.columns("quality"),
        judge=evaluation.columns("judge"),
        exhibits=exhibits,
        history=curves,
        best_epoch=max(best, default=None),
    )
    return render_page(page)


def _facts(store: "Store", version: "Version", dataset: Manifest) -> dict[str, str]:
    """Return what is known of a version's training; what another tool registered may say nothing."""
    from tasks.tracking.runs import RECORDED_EPOCHS, get_run
    from tasks.tracking.versions import SEED

    run = get_run(store, version.run_id) if version.run_id else None
    tags, params = (run.data.tags, run.data.params) if run else ({}, {})
    known = {
        "Recipe": tags.get("dcgan.recipe"),
        "Seed": tags.get(SEED),
        "Epochs": tags.get(RECORDED_EPOCHS),
        "Released": f"the {params['releases']} epoch" if "releases" in params else None,
        "Data set": f"{dataset.source} ({dataset.digest[:DIGITS]})",
        "MLflow run": f"{run.info.run_name} ({run.info.run_id})" if run else None,
        "Code": (tags.get("mlflow.source.git.commit") or "")[:DIGITS],
        "Device": tags.get("dcgan.device"),
    }
    return {name: value for name, value in known.items() if value}
