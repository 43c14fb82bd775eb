"""The pipeline: download MNIST, normalise it into Parquet, train, render, register, and promote what is better."""

import runpy
import sys
import time
from typing import TYPE_CHECKING

from prefect import flow
from prefect.runtime import flow_run

from dcgan.errors import ConfigurationError, mask_credentials
from dcgan.provenance import Configuration
from dcgan.recipe import RECIPES, DeviceChoice, Recipe, RecipeName
from flows.hyperparameters import Changes, Hyperparameters
from flows.parameters import Base, Positive, Resume, Seed, Source
from tasks.results import Links, Promotion, PromotionMode, Summary, Trained
from tasks.settings import Settings, quiet_imports
from tracking.tags import EXPERIMENT, MODEL_NAME, TRIAL

if TYPE_CHECKING:
    from tasks.context import Context
    from tasks.training_run import TrainingRun


def _flow_run_name() -> str:
    """Return the name of a flow run: that of its MLflow run, as far as the parameters say it, and a sweep's trial."""
    given = flow_run.parameters
    recipe = given.get("hyperparameters", {}).get("name") or given.get("recipe", "fast")
    seed = given.get("seed", 0)
    trial = "".join(f"-trial{tag.partition('=')[2]}" for tag in flow_run.tags if tag.startswith(f"{TRIAL}="))
    return f"{recipe}{'' if seed is None else f'-seed{seed}'}{trial}"


@flow(name="dcgan", flow_run_name=_flow_run_name)
def dcgan(  # noqa: PLR0913 - one for each field of the form
    *,
    recipe: Base = "fast",
    epochs: Positive | None = None,
    hyperparameters: Hyperparameters = {},  # noqa: B006 - nothing changes it, and Prefect's form needs an object
    seed: Seed | None = 0,
    source: Source = "auto",
    resume: Resume = "auto",
    device: DeviceChoice = "auto",
    promotion: PromotionMode = "auto",
) -> Summary:
    """Train a DCGAN: download, prepare, train, render, register, and promote the generator if it is better.

    Args:
        recipe: Recipe to train; on the command line also a TOML file that says base = "fast" and what differs.
        epochs: Number of epochs, instead of the recipe's.
        hyperparameters: Values to use instead of the recipe's, as in --set batch_size=128; may be repeated.
        seed: Random seed of the training run; null derives one from the flow run's id.
        source: Source of the digits: auto, bundled, or a folder or URL that has the four IDX files.
        resume: Which unfinished run to resume: auto, never, or the id of an MLflow run.
        device: Device to train on; gpu is an error where there is none.
        promotion: What happens to a generator that is better than the champion: auto promotes it at once, manual lets
            it wait for a promotion by hand.
    """
    with quiet_imports():
        from dcgan.evaluation.examine import References, require_evaluable
        from dcgan.training.device import choose_devices
        from tasks.context import open_context
        from tasks.download import download
        from tasks.evaluate import evaluate
        from tasks.flow_run import choose_seed, require_starts_left
        from tasks.prefect_ui import completed, publish_run_link, publish_summary
        from tasks.prepare import prepare
        from tasks.promote import describe, promote_candidate, promotion_lock
        from tasks.register import register
        from tasks.render import render
        from tasks.train import record, train
        from tasks.training_run import training_run

    clock = StageClock()
    settings = Settings.read()
    resolved = resolved_recipe(recipe, epochs, hyperparameters)
    require_starts_left()
    devices = choose_devices(device)
    files = download(source, settings)
    clock.lap("download")
    dataset = prepare(files, settings)
    clock.lap("prepare")
    if resolved.evaluate_every:
        require_evaluable(dataset.manifest)
    context = open_context(settings)
    seed = choose_seed(seed)
    configuration, *others = [
        Configuration(recipe=each, seed=seed, dataset_digest=dataset.digest) for each in devices.resolve(resolved)
    ]
    references = References(dataset, settings.classifiers)
    with training_run(context, configuration, dataset.manifest, resume, others) as run:
        publish_run_link(run)
        trained = train(context, run, dataset, references, device)
        record(context, run, trained.checkpoint)
        clock.lap("train")
        render(context, run, trained.checkpoint)
        clock.lap("render")
        version = register(context, run, dataset.manifest, trained.checkpoint)
        clock.lap("register")
        if configuration.recipe.evaluate_every is None:
            promoted = Promotion.unevaluated(version, resolved.name)
        else:
            with promotion_lock(settings):
                evaluation = evaluate(context, version, dataset, references, again=False, lease=run.lease)
                promoted = promote_candidate(context, evaluation, promotion, run.lease)
        describe(context, run.run_id, promoted)
        clock.lap("gate")
    summary = summarize(context, run, trained, promoted, clock.seconds)
    publish_summary(summary)
    return completed(summary, promoted.reason)


class StageClock:
    """Measures how many seconds each stage took, one after the other."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """End a stage, and begin the next."""
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._began, 3)
        self._began = now


def resolved_recipe(
    recipe: RecipeName = "fast", epochs: int | None = None, hyperparameters: Changes | None = None, **_: object
) -> Recipe:
    """Return the recipe that the flow's parameters describe.

    Raises:
        ConfigurationError: Two numbers of epochs are given, or a value does not go with the recipe's others.
    """
    changes = hyperparameters or {}
    if epochs and "epochs" in changes:
        raise ConfigurationError("Two numbers of epochs are given, one of them as a hyperparameter; expected one.")
    return RECIPES[recipe].changed({**changes, **({"epochs": epochs} if epochs else {})})


def summarize(
    context: "Context", run: "TrainingRun", trained: Trained, promotion: Promotion, seconds: dict[str, float]
) -> Summary:
    """Return the summary of a finished run."""
    settings, store = context.settings, context.store
    last = trained.checkpoint.metadata.records[-1]
    return Summary(
        run_id=run.run_id,
        experiment=EXPERIMENT,
        model_name=MODEL_NAME,
        model_version=promotion.version,
        recipe=run.configuration.recipe.name,
        seed=run.configuration.seed,
        epochs=last.epoch,
        steps=last.step,
        dataset_digest=run.configuration.dataset_digest,
        weights_sha256=trained.checkpoint.weights_sha256(),
        images_per_second=trained.images_per_second,
        seconds=seconds,
        metrics=last.metrics,
        quality=promotion.metrics,
        promoted=promotion.promoted,
        verdict=promotion.reason,
        tracking_uri=mask_credentials(settings.tracking_uri),
        links=Links(
            run=run.url,
            report=store.report_url(run.run_id) if promotion.metrics else None,
            version=store.version_url(promotion.version),
        ),
        state_dir=settings.root,
        resumed_from_epoch=trained.resumed_from_epoch,
    )


def after_signal(*, seed: int | None = 0, resume: str = "auto", **_: object) -> str:
    """Return how to resume an interrupted training run."""
    if seed is None or resume == "never":  # the same command would begin another one
        return "The state is saved after every epoch: --resume with the run's id, and its --seed, resumes from there."
    return "The state is saved after every epoch: the same command resumes from there."


def show(summary: Summary) -> None:
    """Print what was made, and where to look."""
    links = summary.links
    lines = {
        "model": f"{summary.model_name} version {summary.model_version}",
        "MLflow run": summary.run_id,
        "samples": str(summary.state_dir / "runs" / summary.run_id / "report"),
        "speed": f"{summary.images_per_second:,.0f} images/s",
        "in service": f"{'yes' if summary.promoted else 'no'}: {summary.verdict}",
        "look": links.report or links.run or "make ui, then open the experiment in MLflow",
    }
    for name, value in lines.items():
        sys.stdout.write(f"{name:<12}{value}\n")


if __name__ == "__main__":
    sys.argv[1:1] = ["train"]
    runpy.run_module("flows.cli", run_name="__main__")
