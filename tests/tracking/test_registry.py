"""A version that is not a complete generator is refused in one sentence, before it is used or put in service."""

from copy import copy
from pathlib import Path

import keras
import mlflow
import mlflow.keras
import numpy as np
import pytest
from mlflow.models import infer_signature

from dcgan.errors import DataError, ModelError, UnavailableError
from tasks.promote import promote_candidate, promote_version
from tests.registry import Registry, lookup_generator
from tracking.registry import SIGNATURE, load_generator, require_generator, resolve
from tracking.tags import MODEL_NAME

EXPECTED = "; expected a Keras model from latents float32 (-1, 100) to images float32 (-1, 28, 28, 1)."


def load(registry: Registry, version: int):
    """Load a version as a function."""
    return load_generator(registry.context.store, resolve(registry.context.store, version))


def promote(registry: Registry, version: int):
    """Promote a version by force."""
    return promote_version.fn(registry.context, version, force=True)


def files_of(registry: Registry, version: int) -> Path:
    """Return the folder of a version's files."""
    uri = registry.context.store.client.get_model_version_download_uri(MODEL_NAME, str(version))
    return Path(uri.removeprefix("file://"))


def refusal_of(use, *arguments: object) -> str:
    with pytest.raises(ModelError) as refusal:
        use(*arguments)
    return str(refusal.value)


uses = pytest.mark.parametrize("use", [load, promote])


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
        (lambda folder: (folder / "data" / "model.keras").unlink(), "the file data/model.keras does not exist"),
        (lambda folder: (folder / "MLmodel").unlink(), "its files cannot be read: "),
        (lambda folder: (folder / "MLmodel").write_text("{["), "its files cannot be read: "),
    ],
    ids=["flipped", "empty", "no-weights", "no-description", "bad-description"],
)
def test_damage_is_found_before_use(registry, use, damage, reason):
    """A file that is damaged or missing is named; nothing is loaded and no alias moves."""
    version = registry.add_good()
    damage(files_of(registry, version))
    sentence = refusal_of(use, registry, version)
    assert sentence.startswith(f"The model {MODEL_NAME} version {version} cannot be used: {reason}")
    assert sentence.endswith(EXPECTED)
    assert registry.aliases() == {}


def test_a_store_that_is_away_is_no_fault_of_the_version(registry, free_port):
    """The failure says that it may pass, and not that the version cannot be used."""
    found = resolve(registry.context.store, registry.add_good())
    store, before = copy(registry.context.store), mlflow.get_registry_uri()
    store.uri = f"http://127.0.0.1:{free_port}"
    mlflow.set_registry_uri(store.uri)
    try:
        with pytest.raises(UnavailableError, match=r"^The MLflow server .* does not answer \(Connection refused\)\.$"):
            require_generator(store, found)
    finally:
        mlflow.set_registry_uri(before)


def register_folder(registry: Registry, folder: Path) -> int:
    """Register a folder that MLflow wrote, as another tool may, and return the version."""
    client = registry.context.store.client
    client.create_registered_model(MODEL_NAME)
    return int(client.create_model_version(MODEL_NAME, folder.as_uri()).version)


@pytest.fixture
def foreign(registry, tmp_path):
    """Return a function that registers a Keras model with a signature of one's own."""

    def register(signature, model=None):
        folder = tmp_path / "model"
        network = model or lookup_generator(registry.digits[:20])
        mlflow.keras.save_model(network, str(folder), signature=signature, pip_requirements=["keras"])
        return register_folder(registry, folder)

    return register


@uses
def test_a_version_without_signature_is_refused(registry, foreign, use):
    """A model that does not say what it takes and gives is not used."""
    version = foreign(None)
    assert (
        refusal_of(use, registry, version)
        == f"The model {MODEL_NAME} version {version} cannot be used: it has no signature{EXPECTED}"
    )
    assert registry.aliases() == {}


@uses
def test_another_signature_is_refused(registry, foreign, use):
    """A classifier is not a generator."""
    version = foreign(infer_signature(np.zeros((2, 784), np.float32), np.zeros((2, 10), np.float32)))
    assert "cannot be used: its signature is another" in refusal_of(use, registry, version)


def test_a_false_signature_is_found_when_loading(registry, foreign):
    """A model that says it is a generator and is not, is refused by what it does."""
    classifier = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10)])
    version = foreign(SIGNATURE, classifier)
    assert "cannot be used: TensorFlow cannot run it: " in refusal_of(load, registry, version)


def test_a_foreign_generator_with_the_signature_is_used(registry, foreign):
    """What others registered is as good, when it is a generator."""
    generator = load(registry, foreign(SIGNATURE))
    assert generator(np.zeros((3, 100), np.float32)).shape == (3, 28, 28, 1)


@pytest.mark.parametrize(
    ("latents", "found"),
    [
        (np.zeros((0, 100), np.float32), "float32 (0, 100)"),
        (np.zeros((2, 99), np.float32), "float32 (2, 99)"),
        (np.zeros(100, np.float32), "float32 (100,)"),
        (np.zeros((2, 100)), "float64 (2, 100)"),
        (np.full((2, 100), np.nan, np.float32), "not all finite"),
        (np.full((2, 100), -np.inf, np.float32), "not all finite"),
    ],
)
def test_unusable_latents_are_refused(registry, latents, found):
    """An empty batch, another form and latents that are not finite are an error of one sentence, not images."""
    generator = load(registry, registry.add_good())
    with pytest.raises(DataError) as refusal:
        generator(latents)
    assert str(refusal.value) == (f"The latents are {found}; expected float32 (n, 100) with n at least 1, all finite.")


def test_nothing_is_decided_beside_a_damaged_champion(registry):
    """A champion that cannot be loaded is named; the candidate gets no verdict, and the aliases stay."""
    champion = registry.add_good()
    promote(registry, champion)
    (files_of(registry, champion) / "data" / "model.keras").unlink()
    candidate = registry.add_better()
    sentence = refusal_of(registry.evaluate, candidate)
    assert sentence.startswith(
        f"The model {MODEL_NAME} version {champion} cannot be used: the file data/model.keras does "
    )
    assert "dcgan.verdict" not in registry.tags(candidate)
    assert registry.aliases() == {"champion": champion}


def test_a_candidate_that_is_damaged_after_its_evaluation_is_not_promoted(registry):
    """A training run that resumes after a crash verifies the files again before an alias moves."""
    version = registry.add_good()
    evaluation = registry.evaluate(version)
    flip_a_byte(files_of(registry, version) / "data" / "model.keras")
    assert "is damaged" in refusal_of(promote_candidate.fn, registry.context, evaluation, "auto")
    assert registry.aliases() == {}
