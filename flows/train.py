"""The pipeline: download MNIST, normalise it into Parquet, train, render, register, and promote what is better."""

import sys
from pathlib import Path

from prefect import flow
from pydantic import Field

from dcgan.dataset import Manifest
from dcgan.files import atomic_file, require_place
from dcgan.provenance import Configuration
from flows.command import CommandFlags, run_flow
from flows.parameters import TrainParameters, takes
from tasks.artifacts import completed
from tasks.download import download
from tasks.evaluate import evaluate
from tasks.flow_run import choose_seed, require_starts_left
from tasks.prepare import prepare
from tasks.promote import promote_candidate
from tasks.promotion import Promotion, one_at_a_time
from tasks.register import register
from tasks.render import render
from tasks.report import StageClock, Summary, link_run, summarize
from tasks.run import Run, training_run
from tasks.train import require_device, train

GOES_ON = "The training's state is saved after every epoch: the same command goes on from there."


@flow(name="dcgan")
@takes(TrainParameters)
def dcgan(parameters: TrainParameters) -> Summary:
    """Train a DCGAN on the digits of a source, record every epoch in MLflow, register and promote."""
    clock = StageClock()
    require_starts_left()
    require_device(parameters.device)
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
        promotion = _pass_through_the_gate(run, version, dataset, parameters)
        clock.lap("gate")
    return completed(summarize(run, dataset, trained, promotion, clock.seconds), promotion.reason)


def _pass_through_the_gate(run: Run, version: int, dataset: Manifest, parameters: TrainParameters) -> Promotion:
    """Evaluate a version beside the champion and promote it if it is better; a recipe may ask for neither."""
    recipe = parameters.resolved_recipe()
    if recipe.evaluate_every is None:
        return Promotion.unevaluated(version, recipe.name)
    with one_at_a_time():
        run.lease.require()
        evaluation = evaluate(version, dataset, again=False)
        run.lease.require()
        return promote_candidate(evaluation, parameters.promotion)


class TrainCommand(CommandFlags, TrainParameters):
    """Train a DCGAN: download, prepare, train, render, register, promote what is better."""

    summary: Path | None = Field(None, description="write the result as JSON into this file")


def main(arguments: list[str]) -> int:
    """Run the pipeline in this process and return the exit code."""
    return run_flow(TrainCommand, "python -m flows.train", arguments, _train, GOES_ON)


def _train(command: TrainCommand) -> None:
    if command.summary:
        require_place(command.summary)
    summary = dcgan(**command.model_dump(exclude={"summary", "debug"}))
    if command.summary:
        with atomic_file(command.summary) as file:
            file.write_text(summary.model_dump_json(indent=2))
    _show(summary)


def _show(summary: Summary) -> None:
    """Say what was made, and where to look."""
    lines = {
        "model": f"{summary.model_name} version {summary.model_version}",
        "MLflow run": summary.run_id,
        "pictures": str(summary.state_dir / "runs" / summary.run_id / "report"),
        "speed": f"{summary.images_per_second:,.0f} images/s",
        "in service": f"{'yes' if summary.promoted else 'no'}: {summary.verdict}",
        "look": "make ui, then open the experiment in MLflow",
    }
    for name, value in lines.items():
        sys.stdout.write(f"{name:<12}{value}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
