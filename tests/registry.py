"""Fixtures with registered generators of known quality: Keras models that answer latents with real digits."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest

from dcgan.data.dataset import Dataset
from dcgan.data.idx import TEST, TRAIN, read_images, read_labels
from dcgan.data.parquet import normalise
from dcgan.evaluation.baselines import noisy
from dcgan.evaluation.classifiers import BUNDLED, CONFIGS
from dcgan.evaluation.examine import Examiner, References
from dcgan.evaluation.gate import Evaluation
from dcgan.provenance import Configuration
from dcgan.recipe import SMOKE
from tasks.context import Context, open_context
from tasks.download import download
from tasks.evaluate import evaluate
from tasks.prepare import prepare
from tasks.promote import promote_candidate
from tasks.settings import Settings
from tracking.registry import log_generator, register_generator
from tracking.runs import create_run
from tracking.tags import DATASET_DIGEST, DATASET_SOURCE, MODEL_NAME

TRAIN_ROWS, TEST_ROWS = 2000, 1000
UNSEEN = slice(10_000, 11_000)  # training digits of MNIST that are in neither half of the fixtures' dataset


@dataclass(frozen=True)
class Registry:
    """A dataset that can be evaluated with, and a store whose versions are registered by tests.

    Attributes:
        context: Settings and store of this test.
        folder: Folder of the four IDX files.
        dataset: The dataset prepared from them.
        digits: Real digits that are not in the dataset, float32 (1000, 28, 28, 1).
        labels: Their labels, uint8 (1000,).
    """

    context: Context
    folder: Path
    dataset: Dataset
    digits: np.ndarray
    labels: np.ndarray

    @property
    def references(self) -> References:
        """The test half in the features of both classifiers."""
        return References(self.dataset, self.context.settings.classifiers)

    def evaluate(self, name: int | str, *, again: bool = True) -> Evaluation:
        """Evaluate a version beside the champion."""
        return evaluate.fn(self.context, name, self.dataset, self.references, again=again)

    def add_good(self, **tags: str) -> int:
        """Register a generator of noisy digits."""
        return self.register(lookup_generator(noisy(self.digits)), **tags)

    def add_better(self) -> int:
        """Register a generator of clean digits."""
        return self.register(lookup_generator(self.digits))

    def add_crippled(self) -> int:
        """Register the better generator after an accident: the rows of its last weights are shuffled."""
        generator = lookup_generator(self.digits)
        kernel = generator.layers[-2].kernel
        kernel.assign(np.random.default_rng(0).permuted(kernel.numpy(), axis=1))
        return self.register(generator)

    def register(self, generator: keras.Model, **tags: str) -> int:
        """Register a generator as the training pipeline does, under a run of its own."""
        store = self.context.store
        configuration = Configuration(recipe=SMOKE, seed=0, dataset_digest=self.dataset.digest)
        run_id = create_run(store, configuration, self.dataset.manifest, {})
        example = np.zeros((2, 100), np.float32)
        tags = {DATASET_DIGEST: self.dataset.digest, DATASET_SOURCE: self.dataset.manifest.source, **tags}
        model_id = log_generator(store, run_id, generator, example)
        return register_generator(store, run_id, model_id, "Images of real digits.", tags)

    def aliases(self) -> dict[str, int]:
        """Return which version each alias names."""
        found = self.context.store.client.get_registered_model(MODEL_NAME).aliases
        return {alias: int(version) for alias, version in found.items()}

    def tags(self, version: int) -> dict[str, str]:
        """Return a version's tags."""
        return self.context.store.client.get_model_version(MODEL_NAME, str(version)).tags


@dataclass(frozen=True)
class ChampionRegistry(Registry):
    """A registry with a champion and three candidates that were evaluated beside it.

    Attributes:
        champion: Evaluation of version 1, which is good and was promoted by the gate.
        better: Evaluation of version 2.
        equal: Evaluation of version 3.
        crippled: Evaluation of version 4.
    """

    champion: Evaluation
    better: Evaluation
    equal: Evaluation
    crippled: Evaluation


def lookup_generator(images: np.ndarray) -> keras.Model:
    """Return a generator in stock layers that answers latents with one of images float32 (n, 28, 28, 1)."""
    layers = keras.layers
    choose = layers.Dense(len(images), use_bias=False, activation="softmax")
    show = layers.Dense(images[0].size, use_bias=False)
    generator = keras.Sequential([keras.Input((100,)), choose, show, layers.Reshape(images.shape[1:])])
    directions = np.random.default_rng(1).standard_normal((100, len(images)))
    choose.kernel.assign(200 * directions / np.linalg.norm(directions, axis=0))  # far apart: one image gets it all
    show.kernel.assign(0.999 * images.reshape(len(images), -1))  # sums of weights that are rounded stay below 1
    return generator


@pytest.fixture(scope="session")
def evaluable_folder(
    mnist_folder: Path, write_idx: Callable[[Path, np.ndarray], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a folder with enough of MNIST's digits for an evaluation; tests only read it."""
    folder = tmp_path_factory.mktemp("evaluable")
    for files, rows in ((TRAIN, slice(TRAIN_ROWS)), (TEST, slice(None, None, 10_000 // TEST_ROWS))):
        images = read_images(mnist_folder / f"{files.images.name}.gz")
        labels = read_labels(mnist_folder / f"{files.labels.name}.gz")
        write_idx(folder / f"{files.images.name}.gz", np.ascontiguousarray(images[rows]))
        write_idx(folder / f"{files.labels.name}.gz", np.ascontiguousarray(labels[rows]))
    return folder


@pytest.fixture(scope="session")
def evaluable(evaluable_folder: Path, mnist_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Return a registry without versions, to copy: its dataset, classifiers, baselines and an empty MLflow store.

    The classifiers are MNIST's: the digits are MNIST's, and to train others takes minutes.
    """
    settings = Settings(DCGAN_STATE=tmp_path_factory.mktemp("evaluable-state") / "state", MLFLOW_TRACKING_URI=None)
    dataset = prepare.fn(download.fn(str(evaluable_folder), settings), settings)
    classifiers = settings.classifiers / dataset.digest
    classifiers.mkdir(parents=True)
    for role in CONFIGS:
        shutil.copy(BUNDLED / f"{role}.npz", classifiers)
    Examiner(dataset, References(dataset, settings.classifiers), settings.classifiers)
    digits = normalise(read_images(mnist_folder / f"{TRAIN.images.name}.gz")[UNSEEN])
    labels = read_labels(mnist_folder / f"{TRAIN.labels.name}.gz")[UNSEEN]
    return Registry(open_context(settings), evaluable_folder, dataset, digits, labels)


@pytest.fixture
def registry(evaluable: Registry, state: Path) -> Registry:
    """Return an empty registry of this test's own."""
    return Registry(**{**vars(evaluable), "context": _copied(evaluable.context, state)})


@pytest.fixture(scope="session")
def evaluated(evaluable: Registry, tmp_path_factory: pytest.TempPathFactory) -> ChampionRegistry:
    """Return a registry with a champion and three evaluated candidates, to copy."""
    context = _copied(evaluable.context, tmp_path_factory.mktemp("evaluated") / "state")
    registry = Registry(**{**vars(evaluable), "context": context})
    champion = registry.evaluate(registry.add_good())
    promote_candidate.fn(context, champion, "auto")
    better, equal, crippled = (registry.add_better(), registry.add_good(), registry.add_crippled())
    return ChampionRegistry(
        **vars(registry),
        champion=champion,
        better=registry.evaluate(better),
        equal=registry.evaluate(equal),
        crippled=registry.evaluate(crippled),
    )


@pytest.fixture
def in_service(evaluated: ChampionRegistry, state: Path) -> ChampionRegistry:
    """Return a registry with a champion, of this test's own."""
    return ChampionRegistry(**{**vars(evaluated), "context": _copied(evaluated.context, state)})


def _copied(context: Context, state: Path) -> Context:
    """Copy a state folder to `state`, and open its store.

    Artifacts stay where MLflow's database names them, so no test may change one: tests after it would see that.
    """
    shutil.copytree(context.settings.root, state, ignore=shutil.ignore_patterns("mlartifacts"))
    return open_context(Settings(DCGAN_STATE=state, MLFLOW_TRACKING_URI=None))
