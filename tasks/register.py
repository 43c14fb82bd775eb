"""The registration task: the trained generator becomes a version of the registered model, verified by loading it."""

import logging
import tempfile
from pathlib import Path

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from dcgan.data.dataset import Manifest
from dcgan.errors import ModelError
from dcgan.export import export_generator, selected_generator
from dcgan.recipe import LATENT_SIZE
from dcgan.rng import fixed_latents
from dcgan.training.checkpoint import Checkpoint
from tasks.context import Context
from tasks.flow_run import flow_run_tags
from tasks.training_run import TrainingRun
from tracking import registry
from tracking.runs import upload_folder
from tracking.store import Store
from tracking.tags import DATASET_DIGEST, FLOW_RUN_URL, RECIPE, SAMPLE_GRID, SEED, SERVING, WEIGHTS_SHA256

logger = logging.getLogger("dcgan.register")

EXAMPLES = 16
TOLERANCE = 1e-5  # of pixels in [-1, 1]: batch sizes differ, and with them the order of sums


@task(cache_policy=NO_CACHE)
def register(context: Context, run: TrainingRun, dataset: Manifest, checkpoint: Checkpoint) -> int:
    """Register the generator of the final checkpoint as a new version, verify it by loading it, and return its number.

    Raises:
        ModelError: The registered model generates other images than the trained one.
        LeaseLostError: Another process has taken over the run.
    """
    store = context.store
    generator = selected_generator(checkpoint)
    latents = fixed_latents(run.configuration.seed, EXAMPLES, LATENT_SIZE)
    version = registry.find_version(store, run.run_id)
    if version is None:
        run.lease.require()
        with tempfile.TemporaryDirectory(prefix="dcgan-") as temporary:
            export_generator(generator, Path(temporary) / "export")
            upload_folder(store, run.run_id, Path(temporary) / "export", SERVING)
        description, tags = _description(run, dataset, checkpoint), _tags(run, dataset, checkpoint)
        model_id = registry.log_generator(store, run.run_id, generator, latents)
        run.lease.require()
        version = registry.register_generator(store, run.run_id, model_id, description, tags)
    _require_equal_images(store, version, latents, np.asarray(generator(latents, training=False)))
    logger.info("Registered %s.", registry.model_uri(version))
    return version


def _require_equal_images(store: Store, number: int, latents: np.ndarray, expected: np.ndarray) -> None:
    """Load a version as its users do and compare its images with those of the generator in memory."""
    images = registry.predict_as_served(store, registry.resolve(store, number), latents)
    if images.shape != expected.shape or not np.allclose(images, expected, rtol=0, atol=TOLERANCE):
        raise ModelError(
            f"The registered {registry.model_uri(number)} generates other images than the trained generator; "
            f"expected a difference of at most {TOLERANCE}."
        )


def _tags(run: TrainingRun, dataset: Manifest, checkpoint: Checkpoint) -> dict[str, str]:
    return {
        RECIPE: run.configuration.recipe.name,
        SEED: str(run.configuration.seed),
        DATASET_DIGEST: dataset.digest,
        WEIGHTS_SHA256: checkpoint.weights_sha256(),
        **flow_run_tags(),
    }


def _description(run: TrainingRun, dataset: Manifest, checkpoint: Checkpoint) -> str:
    """Return the version's page as Markdown: where it came from, its sample grid and its metrics."""
    recipe, seed = run.configuration.recipe, run.configuration.seed
    images = min(dataset.train.rows, recipe.max_images or dataset.train.rows)
    flow_run = flow_run_tags().get(FLOW_RUN_URL)
    selected = checkpoint.selected
    rows = "\n".join(f"| {name.replace('_', ' ')} | {value:,.4g} |" for name, value in selected.metrics.items())
    return f"""Trained by recipe `{recipe.name}`, seed {seed}, {checkpoint.epoch} epochs, on {images:,} images
of {dataset.source} (digest `{dataset.digest[:12]}`).

![sample grid of epoch {selected.epoch}](get-artifact?path={SAMPLE_GRID.replace("/", "%2F")}&run_uuid={run.run_id})

| registered: epoch {selected.epoch} | |
|---|---|
{rows}

MLflow run `{run.run_id}`{f" · [Prefect flow run]({flow_run})" if flow_run else ""}
"""
