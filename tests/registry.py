"""Fixtures with registered generators of known quality: Keras models that answer latents with real digits."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from dcgan.dataset import Manifest
from dcgan.idx import read_images, read_labels
from dcgan.mnist import TEST, TRAIN
from dcgan.parquet import normalise
from dcgan.provenance import Configuration
from dcgan.quality.worsened import noisy
from dcgan.recipe import SMOKE
from tasks.download import download
from tasks.evaluate import evaluate
from tasks.evaluation import Evaluation
from tasks.prepare import prepare
from tasks.promote import promote_candidate
from tasks.quiet import import_tensorflow
from tasks.settings import read_settings

if TYPE_CHECKING:
    import keras

TRAIN_ROWS, TEST_ROWS = 2000, 1000
KINDS = ("better", "equal", "crippled")
UNSEEN = slice(10_000, 11_000)  # training digits of MNIST that are in neither half of the fixtures' data set


@dataclass(frozen=True)
class Registry:
    """A state folder with a data set that can be evaluated with, and the versions that are registered in it.

    Attributes:
        folder: the four IDX files.
        dataset: prepared from them.
        digits: float32 (1000, 28, 28, 1), real ones that are not in the data set.
        labels: theirs, uint8 (1000,).
    """

    folder: Path
    dataset: Manifest
    digits: np.ndarray
    labels: np.ndarray

    def add_good(self, **tags: str) -> int:
        """Register a generator of noisy digits."""
        return self.register(picture_book(noisy(self.digits)), **tags)

    def add_better(self) -> int:
        """Register a generator of clean digits."""
        return self.register(picture_book(self.digits))

    def add_crippled(self) -> int:
        """Register the better generator after an accident: the rows of its last weights are shuffled."""
        generator = picture_book(self.digits)
        kernel = generator.layers[-2].kernel
        kernel.assign(np.random.default_rng(0).permuted(kernel.numpy(), axis=1))
        return self.register(generator)

    def register(self, generator: "keras.Model", **tags: str) -> int:
        """Register a generator as the training pipeline does, under a run of its own."""
        from tasks.tracking.models import log_generator, register_generator
        from tasks.tracking.runs import DATASET_DIGEST, begin_run
        from tasks.tracking.store import Store

        store = Store(read_settings())
        configuration = Configuration(recipe=SMOKE, seed=0, dataset_digest=self.dataset.digest)
        run_id = begin_run(store, configuration, self.dataset, {})
        example = np.zeros((2, 100), np.float32)
        tags = {DATASET_DIGEST: self.dataset.digest, **tags}
        model_id = log_generator(store, run_id, generator, example)
        return register_generator(store, run_id, model_id, "Pictures of real digits.", tags)

    def aliases(self) -> dict[str, int]:
        """Return which version each alias names."""
        from tasks.tracking.store import MODEL_NAME, Store

        found = Store(read_settings()).client.get_registered_model(MODEL_NAME).aliases
        return {alias: int(version) for alias, version in found.items()}

    def tags(self, version: int) -> dict[str, str]:
        """Return a version's tags."""
        from tasks.tracking.store import MODEL_NAME, Store

        return Store(read_settings()).client.get_model_version(MODEL_NAME, str(version)).tags


def picture_book(pictures: np.ndarray) -> "keras.Model":
    """Return a generator in stock layers that answers latents with one of pictures float32 (n, 28, 28, 1)."""
    import_tensorflow()
    import keras

    layers = keras.layers
    choose = layers.Dense(len(pictures), use_bias=False, activation="softmax")
    show = layers.Dense(pictures[0].size, use_bias=False)
    generator = keras.Sequential([keras.Input((100,)), choose, show, layers.Reshape(pictures.shape[1:])])
    directions = np.random.default_rng(1).standard_normal((100, len(pictures)))
    choose.kernel.assign(200 * directions / np.linalg.norm(directions, axis=0))  # far apart: one picture gets it all
    show.kernel.assign(0.999 * pictures.reshape(len(pictures), -1))  # sums of weights that are rounded stay below 1
    return generator


@pytest.fixture(scope="session")
def evaluable_folder(
    mnist_folder: Path, write_idx: Callable[[Path, np.ndarray], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a folder with so many of MNIST's digits that they can be evaluated with; tests only read it."""
    folder = tmp_path_factory.mktemp("evaluable")
    for files, rows in ((TRAIN, slice(TRAIN_ROWS)), (TEST, slice(None, None, 10_000 // TEST_ROWS))):
        images = read_images(mnist_folder / f"{files.images.name}.gz")
        labels = read_labels(mnist_folder / f"{files.labels.name}.gz")
        write_idx(folder / f"{files.images.name}.gz", np.ascontiguousarray(images[rows]))
        write_idx(folder / f"{files.labels.name}.gz", np.ascontiguousarray(labels[rows]))
    return folder


@pytest.fixture(scope="session")
def evaluable(evaluable_folder: Path, mnist_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> "Template":
    """Return a state folder with that data set, its classifiers, their bounds and an empty MLflow store, to copy.

    The classifiers are MNIST's: they are digits of MNIST, and to train others takes minutes.
    """
    from dcgan.quality.evaluator import BUNDLED
    from tasks.examination import Examiner
    from tasks.tracking.store import Store

    state = tmp_path_factory.mktemp("evaluable-state") / "state"
    with _settings_on(state):
        dataset = prepare.fn(download.fn(str(evaluable_folder)))
        classifiers = read_settings().evaluators / dataset.digest
        classifiers.mkdir(parents=True)
        for role in ("evaluator", "judge"):
            shutil.copy(BUNDLED / f"{role}.npz", classifiers)
        Examiner(dataset)
        Store(read_settings())
    digits = normalise(read_images(mnist_folder / f"{TRAIN.images.name}.gz")[UNSEEN])
    labels = read_labels(mnist_folder / f"{TRAIN.labels.name}.gz")[UNSEEN]
    return Template(state, Registry(evaluable_folder, dataset, digits, labels))


@pytest.fixture
def registry(evaluable: "Template", state: Path) -> Registry:
    """Return an empty registry of this test's own."""
    return evaluable.copied(state)


@dataclass(frozen=True)
class InService(Registry):
    """A registry with a champion and three candidates that were evaluated beside it.

    Attributes:
        champion: version 1, good, promoted by the gate.
        better: version 2.
        equal: version 3.
        crippled: version 4.
    """

    champion: Evaluation
    better: Evaluation
    equal: Evaluation
    crippled: Evaluation


@pytest.fixture(scope="session")
def evaluated(evaluable: "Template", tmp_path_factory: pytest.TempPathFactory) -> "Template":
    """Return a state folder with those versions, to copy."""
    state = tmp_path_factory.mktemp("evaluated") / "state"
    registry = evaluable.copied(state)
    with _settings_on(state):
        champion = evaluate.fn(registry.add_good(), registry.dataset)
        promote_candidate.fn(champion, "auto")
        added = (registry.add_better(), registry.add_good(), registry.add_crippled())
        candidates = [evaluate.fn(version, registry.dataset) for version in added]
    return Template(state, InService(**vars(registry), champion=champion, **dict(zip(KINDS, candidates, strict=True))))


@pytest.fixture
def in_service(evaluated: "Template", state: Path) -> Registry:
    """Return a registry with a champion, of this test's own."""
    return evaluated.copied(state)


@dataclass(frozen=True)
class Template:
    """A state folder that tests copy, and what lies in it; artifacts stay where MLflow's database names them."""

    state: Path
    registry: Registry

    def copied(self, state: Path) -> Registry:
        """Copy the folder to `state`."""
        shutil.copytree(self.state, state, ignore=shutil.ignore_patterns("mlartifacts"))
        return self.registry


@contextmanager
def _settings_on(state: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCGAN_STATE", str(state))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield
