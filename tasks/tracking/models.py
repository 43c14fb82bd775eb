"""The generator as a version of the registered MLflow model: logged, registered once, and loaded again."""

import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import mlflow.artifacts
import mlflow.keras
import mlflow.pyfunc
import numpy as np
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from dcgan.errors import ModelError
from dcgan.files import sha256_of_file
from tasks.tracking.signature import KERAS_FILE, MODEL_SHA256, SIGNATURE
from tasks.tracking.store import MODEL_NAME, Store, translated_errors

if TYPE_CHECKING:
    import keras

REQUIREMENTS = ("mlflow", "keras", "tensorflow", "numpy")


def find_version(store: Store, run_id: str) -> int | None:
    """Return the version that a run registered, None when it has not yet."""
    with translated_errors(store.uri):
        found = store.client.search_model_versions(f"run_id = '{run_id}'")
    return max((int(each.version) for each in found if each.name == MODEL_NAME), default=None)


def log_generator(store: Store, run_id: str, generator: "keras.Model", example: np.ndarray) -> str:
    """Log the generator under its run, unless that is done already, and return the logged model's id.

    Args:
        store: where.
        run_id: the run that trained it.
        generator: stock Keras layers only.
        example: latents float32 (n, 100), kept as the model's input example.
    """
    with translated_errors(store.uri):
        return _logged_model(store, run_id) or _log_model(store, run_id, generator, example)


def register_generator(store: Store, run_id: str, model_id: str, description: str, tags: Mapping[str, str]) -> int:
    """Make a run's logged generator a new version of the registered model, and return the version.

    Args:
        store: where.
        run_id: the run that trained it; a run has one version.
        model_id: the logged model's.
        description: Markdown for the version's page.
        tags: of the version.
    """
    with translated_errors(store.uri):
        _require_registered_model(store)
        created = store.client.create_model_version(
            MODEL_NAME,
            f"models:/{model_id}",
            run_id,
            tags={**tags, MODEL_SHA256: _model_digest(model_id)},
            description=description,
            model_id=model_id,
        )
    return int(created.version)


def load_generator(version_or_alias: int | str) -> "mlflow.pyfunc.PyFuncModel":
    """Return a registered version of the opened store, by its number or its alias, as MLflow serves it.

    Raises:
        ModelError: it cannot be loaded.
    """
    uri = model_uri(version_or_alias)
    try:
        return mlflow.pyfunc.load_model(uri)
    except Exception as error:
        first_line = str(error).strip().splitlines()[0].rstrip(".")
        raise ModelError(f"The model {uri} cannot be loaded: {first_line}.") from error


def model_uri(version_or_alias: int | str) -> str:
    """Return the address of a registered version: `models:/dcgan-generator/3` or `models:/dcgan-generator@champion`."""
    separator = "/" if str(version_or_alias).isdigit() else "@"
    return f"models:/{MODEL_NAME}{separator}{version_or_alias}"


def _logged_model(store: Store, run_id: str) -> str | None:
    """Return the id of the model that the run has logged whole, None when there is none; half ones are deleted.

    It is there without a version when the process was killed between the two.
    """
    whole = None
    for model in store.client.search_logged_models([store.experiment_id], filter_string=f"source_run_id = '{run_id}'"):
        if model.status == LoggedModelStatus.READY:
            whole = str(model.model_id)
        else:
            store.client.delete_logged_model(model.model_id)
    return whole


def _log_model(store: Store, run_id: str, generator: "keras.Model", example: np.ndarray) -> str:
    mlflow.set_experiment(experiment_id=store.experiment_id)
    info = Model.log(
        artifact_path=None,
        name="generator",
        flavor=_KerasFlavor,
        run_id=run_id,
        model=generator,
        signature=SIGNATURE,
        input_example=example,
        pip_requirements=[f"{package}=={version(package)}" for package in REQUIREMENTS],
    )
    return str(info.model_id)


class _KerasFlavor:
    """MLflow's Keras flavor, which writes the input example before it has made the folder (3.17)."""

    @staticmethod
    def save_model(path: str, **arguments: Any) -> None:
        Path(path).mkdir()
        mlflow.keras.save_model(path=path, **arguments)


def _model_digest(model_id: str) -> str:
    """Return the SHA-256 of the logged Keras file, by which damage is found before the version is used again."""
    with tempfile.TemporaryDirectory(prefix="dcgan-") as temporary:
        folder = mlflow.artifacts.download_artifacts(f"models:/{model_id}", dst_path=temporary)
        return sha256_of_file(Path(folder) / KERAS_FILE)


def _require_registered_model(store: Store) -> None:
    try:
        store.client.create_registered_model(MODEL_NAME, description="DCGAN: latents (n, 100) in, 28×28 images out.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
