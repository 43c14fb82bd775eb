"""The registered generator: logged, registered once per run, verified, loaded, and put into service by aliases."""

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import keras
import mlflow
import mlflow.artifacts
import mlflow.keras
import mlflow.pyfunc
import numpy as np
import tensorflow as tf
from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS
from pydantic import BaseModel, ConfigDict

from dcgan.errors import ModelError, TrackingError, UnavailableError, mask_credentials
from dcgan.files import first_line, sha256_of_file
from dcgan.generation import Generator, require_latents
from dcgan.recipe import IMAGE_SHAPE, LATENT_SIZE
from tracking.create import create_once
from tracking.store import Store, tolerated_absence, translated_errors
from tracking.tags import CHALLENGER, CHAMPION, DATASET_DIGEST, MODEL_NAME, MODEL_SHA256, PREVIOUS, SEED

SIGNATURE = ModelSignature(
    inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, LATENT_SIZE))]),
    outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, *IMAGE_SHAPE))]),
)
EXPECTED = "a Keras model from latents float32 (-1, 100) to images float32 (-1, 28, 28, 1)"
KERAS_FILE = "data/model.keras"  # where MLflow's Keras flavor puts it
PYFUNC_KEYS = {"data", "env", "loader_module", "python_version"}  # not `code`, from which MLflow would import
REQUIREMENTS = ("mlflow", "keras", "tensorflow", "numpy")
# MLflow's error codes for a model, a version, or an alias that does not exist
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
LARGEST_NUMBER = 2**31 - 1  # of a version, in MLflow's databases


class Version(BaseModel):
    """A registered version.

    Attributes:
        number: Its number.
        run_id: The run that registered it, None where another tool registered it without one.
        model_id: Id of the logged model that it was made of, None where it was made of other files.
        tags: Its tags.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    run_id: str | None
    model_id: str | None
    tags: Mapping[str, str]

    @property
    def seed(self) -> int:
        """Seed of its training run; 0 where it has no such tag."""
        tag = self.tags.get(SEED, "")
        return int(tag) if tag.isdecimal() else 0

    @property
    def dataset_digest(self) -> str | None:
        """Digest of the dataset that it was trained on; None where it has no such tag."""
        return self.tags.get(DATASET_DIGEST)


def model_uri(version_or_alias: int | str) -> str:
    """Return the address of a registered version: `models:/dcgan-generator/3` or `models:/dcgan-generator@champion`."""
    separator = "/" if _is_number(str(version_or_alias)) else "@"
    return f"models:/{MODEL_NAME}{separator}{version_or_alias}"


# --- register


def find_version(store: Store, run_id: str) -> int | None:
    """Return the version that a run has registered, None when it has none yet.

    Anybody who may register versions can make one that names this run; only one of the run's own logged model counts.
    """
    with translated_errors(store.uri):
        found = store.client.search_model_versions(f"run_id = '{run_id}'")
        logged = {_source(model.model_id) for model in _logged_models(store, run_id)}
    own = (int(each.version) for each in found if each.name == MODEL_NAME and each.source in logged)
    return max(own, default=None)


def log_generator(store: Store, run_id: str, generator: keras.Model, example: np.ndarray) -> str:
    """Log the generator under its run, unless it is logged already, and return the logged model's id.

    Args:
        store: The store.
        run_id: The run that trained it.
        generator: A model of stock Keras layers.
        example: Latents, float32 (n, 100), stored as the model's input example.
    """
    with translated_errors(store.uri):
        if complete := _logged_model(store, run_id):
            return complete
        try:
            _log_model(store, run_id, generator, example)
        except MlflowException:  # such as a repeated request that MLflow refuses: what is half logged is removed
            if not _logged_model(store, run_id):
                _log_model(store, run_id, generator, example)
        logged = _logged_model(store, run_id)
    if logged is None:
        raise TrackingError(f"The run {run_id} has logged a model that MLflow does not list.")
    return logged


def register_generator(store: Store, run_id: str, model_id: str, description: str, tags: Mapping[str, str]) -> int:
    """Make a run's logged generator one new version of the registered model, and return the version's number.

    Args:
        store: The store.
        run_id: The run that trained it.
        model_id: Id of the logged model.
        description: Markdown text of the version's page.
        tags: Tags of the version.
    """
    client = store.client

    def create(token: dict[str, str]) -> str:
        all_tags = {**tags, MODEL_SHA256: digest, **token}
        created = client.create_model_version(
            MODEL_NAME, _source(model_id), run_id, tags=all_tags, description=description, model_id=model_id
        )
        return str(created.version)

    with translated_errors(store.uri):
        _create_registered_model(store)
        digest = _model_digest(model_id)
        number = create_once(
            create,
            lambda matching: [str(version.version) for version in client.search_model_versions(matching)],
            lambda surplus: client.delete_model_version(MODEL_NAME, surplus),
        )
        # MLflow's pages show the version beside the run by this tag, which its server sets, and its client does not
        if MLFLOW_MODEL_VERSIONS not in client.get_logged_model(model_id).tags:
            link = json.dumps([{"name": MODEL_NAME, "version": number}])
            client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: link})
    return int(number)


def predict_as_served(store: Store, version: Version, latents: np.ndarray) -> np.ndarray:
    """Return the images of a version for latents float32 (n, 100) as MLflow serves it.

    MLflow imports and runs whatever a version's files name, so these are checked first: nothing but Keras loads them.

    Raises:
        ModelError: Its files are missing or damaged, or it cannot be loaded.
    """
    _show_no_progress()
    with _verified_files(store, version) as folder:
        flavors = Model.load(str(folder)).flavors
        served = flavors.get("python_function", {})
        if served.get("loader_module") != "mlflow.keras" or not served.keys() <= PYFUNC_KEYS:
            raise _unusable(version, "MLflow would not load it as a Keras model alone")
        try:
            return np.asarray(mlflow.pyfunc.load_model(str(folder)).predict(latents))
        except Exception as error:
            raise _unusable(version, f"MLflow cannot serve it: {first_line(error)}") from error


# --- find, verify and load


def resolve(store: Store, name: int | str) -> Version:
    """Return the version with a number or an alias.

    Raises:
        ModelError: There is none.
        TrackingError: The store failed.
    """
    if isinstance(name, int) or _is_number(name):
        found, what, more = _get(store, int(name)), "version", ""
    else:
        found, what, more = aliased(store, name), "alias", ", or an alias that one has"
    if found is None:
        expected = f"the number of a version ({_newest(store)}){more}"
        raise ModelError(f"The model {MODEL_NAME} has no {what} {name}; expected {expected}.")
    return found


def _newest(store: Store) -> str:
    with translated_errors(store.uri):
        found = store.client.search_model_versions(
            f"name = '{MODEL_NAME}'", max_results=1, order_by=["version_number DESC"]
        )
    shown = mask_credentials(store.uri)
    return f"the newest in {shown} is {found[0].version}" if found else f"none is registered in {shown}"


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal()


def aliased(store: Store, alias: str) -> Version | None:
    """Return the version that has an alias, None when none has it."""
    with translated_errors(store.uri):
        try:
            return _version(store.client.get_model_version_by_alias(MODEL_NAME, alias))
        except MlflowException as error:
            if error.error_code in ABSENT:
                return None
            raise


def load_generator(store: Store, version: Version) -> Generator:
    """Return a version as a function from latents float32 (n, 100) to images float32 (n, 28, 28, 1) in [-1, 1].

    The function raises DataError for latents that are not finite, of another form, or none.

    Raises:
        ModelError: Its files are missing or damaged, or it is not a generator.
    """
    network = load_network(store, version)
    latents_spec = tf.TensorSpec((None, LATENT_SIZE), tf.float32)
    run = tf.function(lambda latents: network(latents, training=False), input_signature=[latents_spec], autograph=False)
    try:
        run.get_concrete_function()
    except Exception as error:
        raise _unusable(version, f"TensorFlow cannot run it: {first_line(error)}") from error

    def generate(latents: np.ndarray) -> np.ndarray:
        require_latents(latents)
        images: np.ndarray = run(latents).numpy()
        return images

    return generate


def load_network(store: Store, version: Version) -> keras.Model:
    """Return a version as a Keras model; its files are verified, then loaded by Keras in safe mode.

    Raises:
        ModelError: Its files are missing or damaged, or Keras cannot load them.
    """
    with _verified_files(store, version) as folder:
        try:
            return keras.saving.load_model(folder / KERAS_FILE, compile=False, safe_mode=True)
        except Exception as error:
            raise _unusable(version, f"Keras cannot load it: {first_line(error)}") from error


def require_generator(store: Store, version: Version) -> None:
    """Check that a version's files are complete and have a generator's signature, without loading them.

    Raises:
        ModelError: They are missing or damaged, or it is not a generator.
    """
    with _verified_files(store, version):
        pass


# --- description


def get_description(store: Store, number: int) -> str:
    """Return the Markdown text of a version's page."""
    with translated_errors(store.uri):
        return store.client.get_model_version(MODEL_NAME, str(number)).description or ""


def set_description(store: Store, number: int, text: str) -> None:
    """Replace the Markdown text of a version's page."""
    with translated_errors(store.uri):
        store.client.update_model_version(MODEL_NAME, str(number), description=text)


# --- aliases


def tag_version(store: Store, number: int, tags: Mapping[str, str]) -> None:
    """Set tags of a version, in their order."""
    with translated_errors(store.uri):
        for name, value in tags.items():
            store.client.set_model_version_tag(MODEL_NAME, str(number), name, value)


def untag_version(store: Store, number: int, name: str) -> None:
    """Remove a tag of a version, if it has it."""
    with translated_errors(store.uri), tolerated_absence():
        store.client.delete_model_version_tag(MODEL_NAME, str(number), name)


def set_champion(store: Store, number: int, expected: int | None) -> None:
    """Make a version the champion, and the champion before it `previous`.

    The former champion gets its alias first: killed in between, the champion is still the former one, and nothing that
    `previous` should name is lost.

    Args:
        store: The store.
        number: The version.
        expected: The champion that it replaces, None where there is none; the version itself may be it already.

    Raises:
        ModelError: There is another champion.
    """
    former = aliased(store, CHAMPION)
    if (former.number if former else None) not in (expected, number):
        raise _changed_meanwhile(former, expected)
    if former and former.number != number:
        set_alias(store, PREVIOUS, former.number)
    set_alias(store, CHAMPION, number)
    challenger = aliased(store, CHALLENGER)
    if challenger and challenger.number == number:
        with translated_errors(store.uri), tolerated_absence():
            store.client.delete_registered_model_alias(MODEL_NAME, CHALLENGER)


def swap_champion(store: Store, champion: Version, previous: Version) -> None:
    """Make `previous` the champion again, and the champion `previous`.

    The champion moves first: killed in between, the wanted version is in service.

    Raises:
        ModelError: There is another champion.
    """
    current = aliased(store, CHAMPION)
    if current is None or current.number != champion.number:
        raise _changed_meanwhile(current, champion.number)
    set_alias(store, CHAMPION, previous.number)
    set_alias(store, PREVIOUS, champion.number)


def _changed_meanwhile(current: Version | None, expected: int | None) -> ModelError:
    names = [f"version {number}" if number else "none" for number in (current.number if current else None, expected)]
    return ModelError(f"The champion became {names[0]} meanwhile; expected {names[1]}: ask again.")


def set_alias(store: Store, alias: str, number: int) -> None:
    """Move an alias to a version; MLflow does it atomically."""
    with translated_errors(store.uri):
        store.client.set_registered_model_alias(MODEL_NAME, alias, str(number))


# --- details


def _logged_model(store: Store, run_id: str) -> str | None:
    """Return the id of the model that the run has logged completely, None when there is none; incomplete ones go.

    It exists without a version when the process was killed between the two, and incomplete where a reply was lost.
    """
    complete = None
    for model in _logged_models(store, run_id):
        if model.status == LoggedModelStatus.READY:
            complete = str(model.model_id)
        else:
            with tolerated_absence():
                store.client.delete_logged_model(model.model_id)
    return complete


def _logged_models(store: Store, run_id: str) -> Iterable[LoggedModel]:
    found: Iterable[LoggedModel] = store.client.search_logged_models(
        [store.experiment_id], filter_string=f"source_run_id = '{run_id}'"
    )
    return found


def _source(model_id: str) -> str:
    return f"models:/{model_id}"


def _show_no_progress() -> None:
    """Keep Keras from writing a progress bar for every `predict`, MLflow's of the example included, into the log."""
    keras.config.disable_interactive_logging()


def _log_model(store: Store, run_id: str, generator: keras.Model, example: np.ndarray) -> None:
    _show_no_progress()
    mlflow.set_experiment(experiment_id=store.experiment_id)
    Model.log(
        artifact_path=None,
        name="generator",
        flavor=_KerasFlavor,
        run_id=run_id,
        model=generator,
        signature=SIGNATURE,
        input_example=example,
        pip_requirements=[f"{package}=={package_version(package)}" for package in REQUIREMENTS],
    )


class _KerasFlavor:
    """MLflow's Keras flavor, which writes the input example before it has made the folder (3.17)."""

    @staticmethod
    def save_model(path: str, **arguments: Any) -> None:
        Path(path).mkdir()
        mlflow.keras.save_model(path=path, **arguments)


def _model_digest(model_id: str) -> str:
    """Return the SHA-256 of the logged Keras file, by which damage is found before the version is used again."""
    with tempfile.TemporaryDirectory(prefix="dcgan-") as temporary:
        folder = mlflow.artifacts.download_artifacts(_source(model_id), dst_path=temporary)
        return sha256_of_file(Path(folder) / KERAS_FILE)


def _create_registered_model(store: Store) -> None:
    try:
        store.client.create_registered_model(MODEL_NAME, description="DCGAN: latents (n, 100) in, 28×28 images out.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _get(store: Store, number: int) -> Version | None:
    if number > LARGEST_NUMBER:
        return None
    with translated_errors(store.uri):
        try:
            return _version(store.client.get_model_version(MODEL_NAME, str(number)))
        except MlflowException as error:
            if error.error_code in ABSENT:
                return None
            raise


def _version(found: ModelVersion) -> Version:
    prefix = _source("")
    return Version(
        number=int(found.version),
        run_id=found.run_id or None,
        model_id=found.source.removeprefix(prefix) if found.source.startswith(f"{prefix}m-") else None,
        tags=found.tags,
    )


@contextmanager
def _verified_files(store: Store, version: Version) -> Iterator[Path]:
    """Yield a version's files, in a folder that exists as long as the body runs."""
    with tempfile.TemporaryDirectory(prefix="dcgan-") as temporary:
        try:
            uri = model_uri(version.number)
            folder = Path(mlflow.artifacts.download_artifacts(uri, dst_path=temporary, tracking_uri=store.uri))
            signature = Model.load(str(folder)).signature
        except Exception as error:
            _require_artifacts(store, version)
            raise _unusable(version, f"its files cannot be read: {first_line(error)}") from error
        if signature is None:
            raise _unusable(version, "it has no signature")
        if _types_and_shapes(signature) != _types_and_shapes(SIGNATURE):
            raise _unusable(version, "its signature is another")
        if not (folder / KERAS_FILE).is_file():
            raise _unusable(version, f"the file {KERAS_FILE} does not exist")
        digest = version.tags.get(MODEL_SHA256)
        if digest and sha256_of_file(folder / KERAS_FILE) != digest:
            raise _unusable(version, f"the file {KERAS_FILE} is damaged: its SHA-256 is not {digest}")
        yield folder


def _require_artifacts(store: Store, version: Version) -> None:
    """Raise UnavailableError where no artifact can be read now, so that nothing need be wrong with the version's."""
    try:
        with translated_errors(store.uri):
            mlflow.artifacts.list_artifacts(artifact_uri=model_uri(version.number), tracking_uri=store.uri)
    except UnavailableError:
        raise
    except TrackingError:  # the version has none
        return


def _types_and_shapes(signature: ModelSignature) -> list[list[tuple[str, tuple[int, ...]]]]:
    """Return types and shapes of a signature, without the names that other tools may give."""
    schemas = (getattr(signature, "inputs", None), getattr(signature, "outputs", None))
    return [
        [(str(getattr(spec, "type", None)), tuple(getattr(spec, "shape", ()) or ())) for spec in schema or ()]
        for schema in schemas
    ]


def _unusable(version: Version, reason: str) -> ModelError:
    return ModelError(f"The model {MODEL_NAME} version {version.number} cannot be used: {reason}; expected {EXPECTED}.")
