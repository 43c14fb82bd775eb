"""What is not a whole generator is refused in one sentence, before it is used or put in service."""

from pathlib import Path

import numpy as np
import pytest

from dcgan.errors import ModelError
from tasks.promote import promote_version
from tasks.quiet import import_tensorflow
from tasks.settings import read_settings
from tasks.tracking.generators import load_generator
from tasks.tracking.store import MODEL_NAME, Store
from tasks.tracking.versions import resolve
from tests.registry import picture_book

EXPECTED = "; expected a Keras model from latents float32 (-1, 100) to images float32 (-1, 28, 28, 1)."


def store():
    return Store(read_settings())


def files_of(version):
    """Return the folder in which a version's files lie."""
    uri = store().client.get_model_version_download_uri(MODEL_NAME, str(version))
    return Path(uri.removeprefix("file://"))


def refusal_of(version, use):
    with pytest.raises(ModelError) as refusal:
        use(version)
    return str(refusal.value)


uses = pytest.mark.parametrize(
    "use",
    [
        lambda version: load_generator(store(), resolve(store(), version)),
        lambda version: promote_version.fn(version, force=True),
    ],
    ids=["load", "promote"],
)


def flip_a_byte(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@uses
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (
            lambda folder: flip_a_byte(folder / "data" / "model.keras"),
            "the file data/model.keras is damaged: its SHA-256",
        ),
        (lambda folder: (folder / "data" / "model.keras").write_bytes(b""), "the file data/model.keras is damaged"),
        (lambda folder: (folder / "data" / "model.keras").unlink(), "the file data/model.keras is not there"),
        (lambda folder: (folder / "MLmodel").unlink(), "its files cannot be read: "),
        (lambda folder: (folder / "MLmodel").write_text("{["), "its files cannot be read: "),
    ],
    ids=["flipped", "empty", "no-weights", "no-description", "bad-description"],
)
def test_damage_is_found_before_use(registry, use, damage, reason):
    """A file that is damaged or gone is named; nothing is loaded and no alias moves."""
    version = registry.add_good()
    damage(files_of(version))
    sentence = refusal_of(version, use)
    assert sentence.startswith(f"The model {MODEL_NAME} version {version} cannot be used: {reason}")
    assert sentence.endswith(EXPECTED)
    assert registry.aliases() == {}


def register_folder(folder):
    """Register a folder that MLflow wrote, as another tool may, and return the version."""
    store().client.create_registered_model(MODEL_NAME)
    return int(store().client.create_model_version(MODEL_NAME, folder.as_uri()).version)


@pytest.fixture
def foreign(registry, tmp_path):
    """Return a function that registers a Keras model with a signature of one's own."""

    def register(signature, model=None):
        import mlflow.keras

        folder = tmp_path / "model"
        network = model or picture_book(registry.digits[:20])
        mlflow.keras.save_model(network, str(folder), signature=signature, pip_requirements=["keras"])
        return register_folder(folder)

    return register


@uses
def test_a_version_without_signature_is_refused(registry, foreign, use):
    """A model that does not say what it takes and gives is not used."""
    version = foreign(None)
    assert (
        refusal_of(version, use)
        == f"The model {MODEL_NAME} version {version} cannot be used: it has no signature{EXPECTED}"
    )
    assert registry.aliases() == {}


@uses
def test_another_signature_is_refused(registry, foreign, use):
    """A classifier is not a generator."""
    from mlflow.models import infer_signature

    version = foreign(infer_signature(np.zeros((2, 784), np.float32), np.zeros((2, 10), np.float32)))
    assert "cannot be used: its signature is another" in refusal_of(version, use)


def test_a_false_signature_is_found_when_loading(foreign):
    """A model that says it is a generator and is not, is refused by what it does."""
    import_tensorflow()
    import keras

    from tasks.tracking.signature import SIGNATURE

    classifier = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10)])
    version = foreign(SIGNATURE, classifier)
    assert "cannot be used: Keras cannot load it: " in refusal_of(
        version, lambda number: load_generator(store(), resolve(store(), number))
    )


def test_a_foreign_generator_with_the_signature_is_used(foreign):
    """What others registered is as good, when it is a generator."""
    from tasks.tracking.signature import SIGNATURE

    generator = load_generator(store(), resolve(store(), foreign(SIGNATURE)))
    assert generator(np.zeros((3, 100), np.float32)).shape == (3, 28, 28, 1)
