"""The registration task: the trained generator becomes a version of the registered model, proven to load and agree."""

import logging
import tempfile
from pathlib import Path

import numpy as np
from prefect import task

from dcgan.dataset import Manifest
from dcgan.errors import ModelError
from tasks.flow_run import flow_run_tags
from tasks.quiet import import_tensorflow
from tasks.run import Run
from tasks.settings import read_settings
from tasks.state import final_state
from tasks.train import Trained

logger = logging.getLogger("dcgan.register")

EXAMPLES = 16
TOLERANCE = 1e-5  # of pixels in [-1, 1]: batch sizes differ, and with them the order of sums
SERVING = "serving/1"  # TensorFlow Serving wants a number below the model's folder


@task
def register(run: Run, dataset: Manifest, trained: Trained) -> int:
    """Register the generator of the run's last state as a new version, check what was registered, and return it.

    Raises:
        ModelError: the registered model gives other pictures than the trained one.
        LeaseLostError: another process holds the run.
    """
    import_tensorflow()
    from dcgan.export import export_saved_model
    from dcgan.randomness import fixed_latents
    from dcgan.recipe import LATENT_SIZE
    from dcgan.showcase import released_generator
    from tasks.tracking import models
    from tasks.tracking.runs import upload_folder
    from tasks.tracking.store import Store

    store = Store(read_settings())
    generator = released_generator(final_state(run))
    latents = fixed_latents(run.configuration.seed, EXAMPLES, LATENT_SIZE)
    version = models.find_version(store, run.run_id)
    if version is None:
        run.lease.require()
        with tempfile.TemporaryDirectory(prefix="dcgan-") as temporary:
            export_saved_model(generator, Path(temporary) / "saved_model")
            upload_folder(store, run.run_id, Path(temporary) / "saved_model", SERVING)
        description, tags = _describe(run, dataset, trained), _tags(run, dataset, trained)
        model_id = models.log_generator(store, run.run_id, generator, latents)
        run.lease.require()
        version = models.register_generator(store, run.run_id, model_id, description, tags)
    _require_equal_pictures(version, latents, np.asarray(generator(latents, training=False)))
    logger.info("Registered %s.", models.model_uri(version))
    return version


def _require_equal_pictures(version: int, latents: np.ndarray, expected: np.ndarray) -> None:
    """Load a version as its users do and compare its pictures with the generator's in memory."""
    from tasks.tracking import models

    served = models.load_generator(version).predict(latents)
    if served.shape != expected.shape or not np.allclose(served, expected, rtol=0, atol=TOLERANCE):
        raise ModelError(
            f"The registered {models.model_uri(version)} gives other pictures than the trained generator; "
            f"expected a difference of at most {TOLERANCE}."
        )


def _tags(run: Run, dataset: Manifest, trained: Trained) -> dict[str, str]:
    return {
        "dcgan.recipe": run.configuration.recipe.name,
        "dcgan.seed": str(run.configuration.seed),
        "dcgan.dataset_digest": dataset.digest,
        "dcgan.weights_sha256": trained.weights_sha256,
        **flow_run_tags(),
    }


def _describe(run: Run, dataset: Manifest, trained: Trained) -> str:
    """Return the version's Markdown: the picture, the figures, and where it came from."""
    recipe, seed = run.configuration.recipe, run.configuration.seed
    images = min(dataset.train.rows, recipe.max_images or dataset.train.rows)
    flow_run = flow_run_tags().get("prefect.flow_run_url")
    rows = "\n".join(f"| {name.replace('_', ' ')} | {value:,.4g} |" for name, value in trained.metrics.items())
    return f"""![the last grid](get-artifact?path=report%2Fsamples.png&run_uuid={run.run_id})

Trained by recipe `{recipe.name}`, seed {seed}, {trained.epochs} epochs, on {images:,} images
of {dataset.source} (digest `{dataset.digest[:12]}`).

| last epoch | |
|---|---|
{rows}

MLflow run `{run.run_id}`{f" · [Prefect flow run]({flow_run})" if flow_run else ""}
"""
