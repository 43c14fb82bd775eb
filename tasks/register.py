"""The registration task: the trained generator becomes a version of the registered model, verified by loading it."""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from dcgan.data.dataset import Manifest
from dcgan.errors import ModelError
from dcgan.export import export_generator, generator_sha256, selected_generator
from dcgan.files import atomic_file
from dcgan.recipe import LATENT_SIZE
from dcgan.report.model_card import Links, model_card
from dcgan.report.playground import render_playground
from dcgan.rng import fixed_latents
from dcgan.training.checkpoint import Checkpoint
from dcgan.training.run_folder import RunFolder
from tasks.context import Context
from tasks.flow_run import flow_run_tags
from tasks.retries import recording_task
from tasks.training_run import TrainingRun
from tracking import registry
from tracking.evaluations import SHOWN_DIGITS
from tracking.runs import artifact_link, upload_folder, upload_text, with_relative_links
from tracking.store import Store
from tracking.tags import (
    DATASET_DIGEST,
    DATASET_SOURCE,
    FLOW_RUN_URL,
    GENERATOR_SHA256,
    MODEL_CARD,
    MODEL_NAME,
    PLAYGROUND,
    RECIPE,
    SAMPLE_GRID,
    SEED,
    SERVING,
)

logger = logging.getLogger("dcgan.register")

EXAMPLES = 16
TOLERANCE = 1e-5  # of pixels in [-1, 1]: batch sizes differ, and with them the order of sums


@recording_task
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
        model_id = registry.log_generator(store, run.run_id, generator, latents)
        digest = generator_sha256(generator)
        page = _playground(generator, _facts(run, dataset, checkpoint, digest))
        card = model_card(dataset, checkpoint, _links(run, model_id, has_playground=PLAYGROUND in page))
        _upload_report(store, run, {**page, MODEL_CARD: with_relative_links(card)})
        run.lease.require()
        version = registry.register_generator(store, run.run_id, model_id, card, _tags(run, dataset, digest))
    _require_equal_images(store, version, latents, np.asarray(generator(latents, training=False)))
    logger.info("Registered %s.", registry.model_uri(version))
    return version


def _playground(generator: keras.Model, facts: Mapping[str, str]) -> dict[str, str]:
    """Return the page that runs a generator, by its artifact's path; nothing for a network that it does not know."""
    try:
        return {PLAYGROUND: render_playground(generator, f"{MODEL_NAME}: playground", facts)}
    except ModelError as error:
        logger.warning("%s The generator is registered without the page.", error)
        return {}


def _upload_report(store: Store, run: TrainingRun, texts: Mapping[str, str]) -> None:
    """Add texts to the run's report, on this machine and in MLflow; `texts` has them by the artifacts' paths."""
    for path, text in texts.items():
        with atomic_file(RunFolder(run.folder).report / Path(path).name) as file:
            file.write_text(text, encoding="utf-8")
        upload_text(store, run.run_id, text, path)


def _links(run: TrainingRun, model_id: str, *, has_playground: bool) -> Links:
    return Links(
        model=f"models:/{model_id}",
        sample_grid=artifact_link(run.run_id, SAMPLE_GRID),
        playground=artifact_link(run.run_id, PLAYGROUND) if has_playground else None,
        run=run.run_id,
        flow_run=flow_run_tags().get(FLOW_RUN_URL),
    )


def _facts(run: TrainingRun, dataset: Manifest, checkpoint: Checkpoint, digest: str) -> dict[str, str]:
    """Return where the generator came from, by name."""
    recipe = run.configuration.recipe
    return {
        "Recipe": recipe.name,
        "Seed": str(run.configuration.seed),
        "Epoch": f"{checkpoint.selected.epoch} of {checkpoint.epoch}",
        "Dataset": f"{dataset.source} ({dataset.digest[:SHOWN_DIGITS]})",
        "Weights": digest[:SHOWN_DIGITS],
        "MLflow run": run.run_id,
    }


def _require_equal_images(store: Store, number: int, latents: np.ndarray, expected: np.ndarray) -> None:
    """Load a version as its users do and compare its images with those of the generator in memory."""
    images = registry.predict_as_served(store, registry.resolve(store, number), latents)
    if images.shape != expected.shape or not np.allclose(images, expected, rtol=0, atol=TOLERANCE):
        raise ModelError(
            f"The registered {registry.model_uri(number)} generates other images than the trained generator; "
            f"expected a difference of at most {TOLERANCE}."
        )


def _tags(run: TrainingRun, dataset: Manifest, digest: str) -> dict[str, str]:
    return {
        RECIPE: run.configuration.recipe.name,
        SEED: str(run.configuration.seed),
        DATASET_DIGEST: dataset.digest,
        DATASET_SOURCE: dataset.source,
        GENERATOR_SHA256: digest,
        **flow_run_tags(),
    }
