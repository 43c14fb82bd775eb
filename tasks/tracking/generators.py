"""A registered version as a function from latents to images: its files checked, then loaded by Keras in safe mode."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow.artifacts
from mlflow.models import Model

from dcgan.errors import ModelError
from dcgan.files import sha256_of_file
from dcgan.recipe import LATENT_SIZE
from tasks.tracking.signature import KERAS_FILE, MODEL_SHA256, SIGNATURE
from tasks.tracking.store import MODEL_NAME, Store
from tasks.tracking.versions import Version

if TYPE_CHECKING:
    import numpy as np

    from dcgan.generation import Generator

EXPECTED = "a Keras model from latents float32 (-1, 100) to images float32 (-1, 28, 28, 1)"


def load_generator(store: Store, version: Version) -> "Generator":
    """Return a version as a function from latents float32 (n, 100) to images float32 (n, 28, 28, 1) in [-1, 1].

    Raises:
        ModelError: its files are gone or damaged, or it is not a generator.
    """
    import keras
    import tensorflow as tf

    latents_of = tf.TensorSpec((None, LATENT_SIZE), tf.float32)
    with _checked_files(store, version) as folder:
        try:
            network = keras.saving.load_model(folder / KERAS_FILE, compile=False, safe_mode=True)
            run = tf.function(lambda latents: network(latents, training=False), input_signature=[latents_of])
            run.get_concrete_function()
        except Exception as error:
            raise _unusable(version, f"Keras cannot load it: {_first_line(error)}") from error

    def generate(latents: "np.ndarray") -> "np.ndarray":
        images: np.ndarray = run(latents).numpy()
        return images

    return generate


def require_generator(store: Store, version: Version) -> None:
    """Check that a version's files are whole and have a generator's signature, without loading it.

    Raises:
        ModelError: they are gone or damaged, or it is not a generator.
    """
    with _checked_files(store, version):
        pass


@contextmanager
def _checked_files(store: Store, version: Version) -> Iterator[Path]:
    """Yield a version's files, in a folder that lasts as long as the body."""
    with tempfile.TemporaryDirectory(prefix="dcgan-") as temporary:
        try:
            uri = f"models:/{MODEL_NAME}/{version.number}"
            folder = Path(mlflow.artifacts.download_artifacts(uri, dst_path=temporary, tracking_uri=store.uri))
            signature = Model.load(str(folder)).signature
        except Exception as error:
            raise _unusable(version, f"its files cannot be read: {_first_line(error)}") from error
        if signature is None:
            raise _unusable(version, "it has no signature")
        if _form(signature) != _form(SIGNATURE):
            raise _unusable(version, "its signature is another")
        if not (folder / KERAS_FILE).is_file():
            raise _unusable(version, f"the file {KERAS_FILE} is not there")
        digest = version.tags.get(MODEL_SHA256)
        if digest and sha256_of_file(folder / KERAS_FILE) != digest:
            raise _unusable(version, f"the file {KERAS_FILE} is damaged: its SHA-256 is not {digest}")
        yield folder


def _form(signature: object) -> list[object]:
    """Return types and shapes of a signature, without the names that other tools may give."""
    schemas = (getattr(signature, "inputs", None), getattr(signature, "outputs", None))
    return [
        [(str(getattr(spec, "type", None)), tuple(getattr(spec, "shape", ()) or ())) for spec in schema or ()]
        for schema in schemas
    ]


def _unusable(version: Version, reason: str) -> ModelError:
    return ModelError(f"The model {MODEL_NAME} version {version.number} cannot be used: {reason}; expected {EXPECTED}.")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
