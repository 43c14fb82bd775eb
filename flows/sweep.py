"""Train many times: over seeds, over a grid of values, or in a search over ranges."""

import runpy
import sys

from prefect import flow
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from rich.console import Console
from rich.table import Table

from dcgan.errors import ConfigurationError
from dcgan.recipe import DeviceChoice, RecipeName
from dcgan.sweep import SweepPlan
from flows import train
from flows.hyperparameters import Changes, Grid, Hyperparameters, Ranges, Search, Seeds, Values
from flows.parameters import Base, Deployment, Positive, Source, SweepName
from tasks.results import PromotionMode, SweepSummary
from tasks.settings import Settings, quiet_imports


def _flow_run_name() -> str:
    given = flow_run.parameters
    return f"sweep-{given.get('name') or given.get('hyperparameters', {}).get('name') or given.get('recipe', 'fast')}"


@flow(name="dcgan-sweep", flow_run_name=_flow_run_name)
def dcgan_sweep(  # noqa: PLR0913 - one for each field of the form
    *,
    recipe: Base = "fast",
    epochs: Positive | None = None,
    hyperparameters: Hyperparameters = {},  # noqa: B006 - nothing changes it, and Prefect's form needs an object
    seeds: Seeds = [0],  # noqa: B006 - likewise
    grid: Grid = {},  # noqa: B006 - likewise
    search: Search = {},  # noqa: B006 - likewise
    trials: Positive | None = None,
    name: SweepName | None = None,
    source: Source = "auto",
    device: DeviceChoice = "auto",
    promotion: PromotionMode = "manual",
    deployment: Deployment | None = None,
    parallel: Positive = 1,
    early_stopping: bool = False,
) -> SweepSummary:
    """Train many times, each trial with its own values, and compare the trials by their Fréchet distance.

    The same parameters continue a sweep that was interrupted; trials that are finished are not repeated.

    Args:
        recipe: Recipe to train; on the command line also a TOML file that says base = "fast" and what differs.
        epochs: Number of epochs of each trial, instead of the recipe's.
        hyperparameters: Values to use instead of the recipe's in every trial, as in --set batch_size=128; may be
            repeated.
        seeds: Random seeds, as in --seeds 0,1,2; each point of a grid is trained with each of them.
        grid: Values to combine, as in --grid batch_size=64,128; may be repeated.
        search: Range to search, as in --search generator_learning_rate=1e-4..4e-3:log, or values as A,B; may be
            repeated.
        trials: Number of trials of a search, 10 by default; a larger number continues the same search.
        name: Name of the sweep, by default the recipe's; the same sweep under another name begins anew.
        source: Source of the digits: auto, bundled, or a folder or URL that has the four IDX files.
        device: Device to train on; gpu is an error where there is none.
        promotion: What happens to a generator that is better than the champion: manual lets it wait for a promotion by
            hand, auto promotes it at once.
        deployment: Deployment whose workers run the trials, such as dcgan/train; null runs them in this process.
        parallel: Number of trials at a time, of a deployment.
        early_stopping: Stop a trial of a search, on a deployment, that is worse than the median of four or more others
            at the same epoch.
    """
    plan = check(
        recipe=recipe,
        epochs=epochs,
        hyperparameters=hyperparameters,
        seeds=seeds,
        grid=grid,
        search=search,
        trials=trials,
        name=name,
        source=source,
        deployment=deployment,
        parallel=parallel,
        early_stopping=early_stopping,
    )
    with quiet_imports():
        from tasks.context import open_context
        from tasks.flow_run import require_starts_left
        from tasks.prefect_ui import completed, publish_sweep
        from tasks.sweep import InThisProcess, OnWorkers, run_trials, sweep

    require_starts_left()
    runner = OnWorkers(deployment, early_stopping) if deployment else InThisProcess(train.dcgan)
    context = open_context(Settings.read())
    parameters = {"recipe": recipe, "source": source, "device": device, "promotion": promotion}
    with sweep(context, plan, parameters) as this:
        summary = run_trials(this, runner, parallel)
    publish_sweep(summary)
    return completed(summary, summary.sentence)


def check(  # noqa: PLR0913 - the flow's own parameters
    *,
    recipe: RecipeName = "fast",
    epochs: int | None = None,
    hyperparameters: Changes | None = None,
    seeds: list[int] | None = None,
    grid: Values | None = None,
    search: Ranges | None = None,
    trials: int | None = None,
    name: str | None = None,
    source: str = "auto",
    deployment: str | None = None,
    parallel: int = 1,
    early_stopping: bool = False,
    **_: object,
) -> SweepPlan:
    """Return the plan of the sweep that the parameters describe.

    Raises:
        ConfigurationError: They contradict one another, or a value is not valid for its hyperparameter.
    """
    train.resolved_recipe(recipe, epochs, hyperparameters)
    if deployment is None and parallel > 1:
        raise ConfigurationError(
            "--parallel goes with --deployment: in this process, trials run one after the other; "
            "expected --deployment dcgan/train as well."
        )
    if early_stopping and not (deployment and search):
        raise ConfigurationError(
            "--early-stopping goes with --search and --deployment; expected both, or trials that run to their end."
        )
    if deployment and not PREFECT_API_URL.value():
        raise ConfigurationError(
            f"The deployment {deployment} needs Prefect's server and its workers; expected PREFECT_API_URL to name it "
            '(make ui, then eval "$(make env)"), or no --deployment to run the trials in this process.'
        )
    return SweepPlan.of(
        recipe=recipe,
        changes={**(hyperparameters or {}), **({"epochs": epochs} if epochs else {})},
        seeds=seeds or [0],
        grid=grid or {},
        search=search or {},
        trials=trials,
        name=name,
        source=source,
    )


def after_signal(deployment: str | None = None, **_: object) -> str:
    """Return how to continue an interrupted sweep."""
    return f"{'Trials on workers continue. ' if deployment else ''}The same command continues the sweep."


def show(summary: SweepSummary) -> None:
    """Print the trials and the best of them."""
    table = Table.grid(padding=(0, 2))
    table.add_row("trial", "state", *(summary.trials[0].point if summary.trials else []), summary.objective)
    for trial in summary.trials:
        value = summary.objective_of(trial)
        shown = "" if value is None else f"{value:.4g}"
        table.add_row(str(trial.number), trial.state, *(str(value) for value in trial.point.values()), shown)
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(summary.sentence)
    console.print(f"MLflow run {summary.run_id}, with the table and a plot under sweep/")


if __name__ == "__main__":
    sys.argv[1:1] = ["sweep"]
    runpy.run_module("flows.cli", run_name="__main__")
