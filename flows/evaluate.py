"""Evaluate a registered generator beside the champion: how good it is, and whether it may take the champion's place."""

import sys

from prefect import flow
from rich.console import Console
from rich.table import Table

from flows.command import CommandFlags, run_flow
from flows.parameters import EvaluateParameters, takes
from tasks.artifacts import completed
from tasks.download import download
from tasks.evaluate import evaluate
from tasks.evaluation import Evaluation
from tasks.prepare import prepare
from tasks.promotion import one_at_a_time

CEILINGS = ("noisy", "blurred", "untrained")  # on the page in Prefect and in MLflow; a terminal is too narrow


@flow(name="dcgan-evaluate")
@takes(EvaluateParameters)
def dcgan_evaluate(parameters: EvaluateParameters) -> Evaluation:
    """Evaluate a version beside the champion on the digits of a source, and record figures and verdict with it."""
    files = download(parameters.source)
    dataset = prepare(files)
    with one_at_a_time():
        evaluation = evaluate(parameters.version, dataset)
    return completed(evaluation, evaluation.sentence)


class EvaluateCommand(CommandFlags, EvaluateParameters):
    """Evaluate a registered generator beside the champion. Nothing is promoted."""


def main(arguments: list[str]) -> int:
    """Evaluate in this process and return the exit code."""
    return run_flow(EvaluateCommand, "python -m flows.evaluate", arguments, _evaluate)


def _evaluate(command: EvaluateCommand) -> None:
    """Evaluate, and print the evaluator's figures above their floor, and what follows from them."""
    evaluation = dcgan_evaluate(**command.model_dump(exclude={"debug"}))
    columns = {title: figures for title, figures in evaluation.columns("quality").items() if title not in CEILINGS}
    table = Table.grid(padding=(0, 2))
    table.add_row("", *columns)
    for name in evaluation.candidate.quality.estimates():
        table.add_row(name.replace("_", " "), *(str(report.estimates()[name]) for report in columns.values()))
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(evaluation.sentence)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
