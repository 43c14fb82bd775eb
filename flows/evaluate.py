"""Evaluate a registered generator beside the champion: how good it is, and whether it may replace the champion."""

import runpy
import sys

from prefect import flow
from rich.console import Console
from rich.table import Table

from dcgan.evaluation.gate import Evaluation
from flows.parameters import Source, Version
from tasks.settings import Settings, quiet_imports

CORRUPTIONS = ("noisy", "blurred", "untrained")  # shown in Prefect and MLflow; a terminal is too narrow


@flow(name="dcgan-evaluate", flow_run_name="evaluate-{version}")
def dcgan_evaluate(*, version: Version = "champion", source: Source | None = None) -> Evaluation:
    """Evaluate a registered generator beside the champion, and record metrics and verdict. Nothing is promoted.

    Args:
        version: Number of the version, or an alias such as champion.
        source: Source of the images to compare with: auto, bundled, or a folder or URL that has the four IDX files;
            null takes the one that the version was trained on.
    """
    with quiet_imports():
        from dcgan.evaluation.examine import References
        from tasks.context import open_context
        from tasks.download import download
        from tasks.evaluate import evaluate, source_of
        from tasks.prefect_ui import completed
        from tasks.prepare import prepare
        from tasks.promote import promotion_lock
        from tracking.registry import resolve

    settings = Settings.read()
    context = open_context(settings)
    files = download(source or source_of(resolve(context.store, version)), settings)
    dataset = prepare(files, settings)
    with promotion_lock(settings):
        evaluation = evaluate(context, version, dataset, References(dataset, settings.classifiers))
    return completed(evaluation, evaluation.sentence)


def show(evaluation: Evaluation) -> None:
    """Print the selection classifier's metrics beside those of the training images, and the verdict."""
    columns = {title: report for title, report in evaluation.columns("selection").items() if title not in CORRUPTIONS}
    table = Table.grid(padding=(0, 2))
    table.add_row("", *columns)
    for name in evaluation.candidate.selection.estimates():
        table.add_row(
            name.replace("_", " ").replace("frechet", "Fréchet"),
            *(str(report.estimates()[name]) for report in columns.values()),
        )
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(evaluation.sentence)


if __name__ == "__main__":
    sys.argv[1:1] = ["evaluate"]
    runpy.run_module("flows.cli", run_name="__main__")
