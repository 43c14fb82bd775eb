"""The pipeline: download MNIST, normalise it into Parquet, train the DCGAN, render its progress, register it."""

import sys
from pathlib import Path

from prefect import flow
from pydantic import Field
from rich.console import Console
from rich.table import Table

from dcgan.errors import ConfigurationError
from dcgan.files import atomic_file
from dcgan.provenance import Configuration
from flows.command import BAD_ARGUMENTS, parse, run_command
from flows.parameters import TrainParameters, takes
from tasks.download import download
from tasks.prepare import prepare
from tasks.register import register
from tasks.render import render
from tasks.report import StageClock, Summary, link_run, summarize
from tasks.run import choose_seed, training_run
from tasks.train import train


@flow(name="dcgan")
@takes(TrainParameters)
def dcgan(parameters: TrainParameters) -> Summary:
    """Train a DCGAN on the digits of a source, record every epoch in MLflow, and register the generator."""
    clock = StageClock()
    files = download(parameters.source)
    clock.lap("download")
    dataset = prepare(files)
    clock.lap("prepare")
    configuration = Configuration(
        recipe=parameters.resolved_recipe(), seed=choose_seed(parameters.seed), dataset_digest=dataset.digest
    )
    with training_run(configuration, dataset, parameters.resume) as run:
        link_run(run)
        trained = train(run, dataset, parameters.device)
        clock.lap("train")
        render(run)
        clock.lap("render")
        version = register(run, dataset, trained)
        clock.lap("register")
    return summarize(run, dataset, trained, version, clock.seconds)


class TrainCommand(TrainParameters):
    """Train a DCGAN: download, prepare, train, render, register. Everything is written under DCGAN_STATE."""

    summary: Path | None = Field(None, description="write the result as JSON into this file")
    debug: bool = Field(False, description="show tracebacks")


def main(arguments: list[str]) -> int:
    """Run the pipeline in this process and return the exit code."""
    try:
        command = parse(TrainCommand, "python -m flows.train", arguments)
    except ConfigurationError as error:
        sys.stderr.write(f"error: {error}\n")
        return BAD_ARGUMENTS
    return run_command(lambda: _train(command), debug=command.debug)


def _train(command: TrainCommand) -> None:
    summary = dcgan(**command.model_dump(exclude={"summary", "debug"}))
    if command.summary:
        with atomic_file(command.summary) as file:
            file.write_text(summary.model_dump_json(indent=2))
    _show(summary)


def _show(summary: Summary) -> None:
    """Say what was made, and where to look."""
    table = Table.grid(padding=(0, 2))
    table.add_row("model", f"{summary.model_name} version {summary.model_version}")
    table.add_row("MLflow run", summary.run_id)
    table.add_row("pictures", str(summary.state_dir / "runs" / summary.run_id / "report"))
    table.add_row("speed", f"{summary.images_per_second:,.0f} images/s")
    table.add_row("look", "make ui, then open the experiment in MLflow")
    Console(soft_wrap=True).print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
