"""The two classifiers whose features the metrics are computed from: networks, training and stored weights.

Both are small, unlike each other in architecture and seed, and float32 whatever the global dtype policy is. Their
weights are bundled for MNIST, and trained once and cached for any other dataset.

Weights are stored as an npz archive without pickles: one float16 array for each variable, and `metadata`, the UTF-8
bytes of a JSON object that describes them. They are identified by a digest of the arrays alone, which does not depend
on the archive's compression.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import softmax

from dcgan.data.idx import CLASSES
from dcgan.errors import ModelError
from dcgan.evaluation.features import Features, Role, check_images, check_labels, display_role
from dcgan.files import UNREADABLE_ARRAYS, atomic_file, first_line
from dcgan.recipe import IMAGE_SHAPE
from dcgan.rng import Stream, layer_seed, numpy_generator

logger = logging.getLogger(__name__)

BUNDLED = Path(__file__).resolve().parents[2] / "data" / "classifiers"
MAX_SHIFT = 1  # pixels in each direction by which training images are moved
IMAGES_PER_CALL = 1000
METADATA = "metadata"
STORED_DTYPE = np.dtype("<f2")

Split = tuple[np.ndarray, np.ndarray | None]
"""Images float32 (n, 28, 28, 1) in [-1, 1], and their labels (n,) from 0 to 9 if there are any."""


@dataclass(frozen=True)
class ClassifierConfig:
    """How a classifier is built and trained.

    Attributes:
        role: What the classifier is used for.
        build: Returns the network with initial weights from a seed; it maps images float32 (n, 28, 28, 1) to
            [features (n, d), logits (n, 10)].
        seed: Seed of the initial weights, the order of the images and their shifts.
        epochs: Number of passes over the training images.
        batch_size: Images in a step; the last, shorter batch of an epoch is dropped.
        learning_rate: Adam's initial learning rate, which falls linearly to zero.
    """

    role: Role
    build: Callable[[int], keras.Model]
    seed: int
    epochs: int
    batch_size: int
    learning_rate: float


def build_selection_classifier(seed: int) -> keras.Model:
    """Return a network of strided convolutions with 128 dense features, which keep the positions of strokes."""
    images = keras.Input(IMAGE_SHAPE, name="images")
    x = _convolution(24, 5, 2, seed, 0)(images)
    x = _convolution(48, 3, 2, seed, 1)(x)
    x = _convolution(48, 3, 1, seed, 2)(x)
    x = _convolution(64, 3, 2, seed, 3)(x)
    x = keras.layers.Flatten(dtype="float32", name="flatten")(x)
    initializer = keras.initializers.HeNormal(layer_seed(seed, 4))
    dense = keras.layers.Dense(128, activation="relu", kernel_initializer=initializer, dtype="float32", name="features")
    return _with_logits(images, dense(x), seed, "selection_classifier")


def build_held_out_classifier(seed: int) -> keras.Model:
    """Return a network of mostly unstrided convolutions and one pooling, with 96 features averaged over the image."""
    images = keras.Input(IMAGE_SHAPE, name="images")
    x = _convolution(24, 5, 2, seed, 0)(images)
    x = _convolution(40, 3, 1, seed, 1)(x)
    x = keras.layers.MaxPooling2D(dtype="float32", name="pool")(x)
    x = _convolution(72, 3, 1, seed, 2)(x)
    x = _convolution(96, 3, 1, seed, 3)(x)
    features = keras.layers.GlobalAveragePooling2D(dtype="float32", name="features")(x)
    return _with_logits(images, features, seed, "held_out_classifier")


def _convolution(filters: int, size: int, strides: int, seed: int, index: int) -> keras.layers.Layer:
    return keras.layers.Conv2D(
        filters,
        size,
        strides=strides,
        padding="same",
        activation="relu",
        kernel_initializer=keras.initializers.HeNormal(layer_seed(seed, index)),
        dtype="float32",
        name=f"convolution_{index}",
    )


def _with_logits(images: keras.KerasTensor, features: keras.KerasTensor, seed: int, name: str) -> keras.Model:
    initializer = keras.initializers.GlorotUniform(layer_seed(seed, 5))
    logits = keras.layers.Dense(CLASSES, kernel_initializer=initializer, dtype="float32", name="logits")(features)
    return keras.Model(images, [features, logits], name=name)


CONFIGS: dict[Role, ClassifierConfig] = {
    "selection": ClassifierConfig(
        "selection", build_selection_classifier, seed=1, epochs=7, batch_size=128, learning_rate=2e-3
    ),
    "held_out": ClassifierConfig(
        "held_out", build_held_out_classifier, seed=2, epochs=7, batch_size=96, learning_rate=3e-3
    ),
}


class ClassifierMetadata(BaseModel):
    """What a file of weights contains."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: str = Field(description="Role of the classifier: selection or held_out")
    weights_sha256: str = Field(description="Digest of the arrays")
    dataset_digest: str = Field(description="Digest of the dataset whose training images it was trained on")
    accuracy: float = Field(ge=0, le=1, description="Fraction of the test images that these weights classify correctly")


@dataclass(frozen=True)
class StoredWeights:
    """The weights of a classifier.

    Attributes:
        metadata: What the weights are.
        arrays: float16 arrays by variable path, in the order of the network.
    """

    metadata: ClassifierMetadata
    arrays: dict[str, np.ndarray]


def weights_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 over name, shape and little-endian float16 bytes of each array, in order."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array, STORED_DTYPE).tobytes())
    return digest.hexdigest()


def save_weights(path: Path, stored: StoredWeights) -> None:
    """Write `stored` to `path` atomically; the same weights give the same bytes."""
    metadata = np.frombuffer(stored.metadata.model_dump_json().encode(), np.uint8)
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **{METADATA: metadata}, **stored.arrays)


def load_weights(path: Path) -> StoredWeights:
    """Return the weights in the file `path`.

    Raises:
        ModelError: The file is missing, is not such an archive, or its arrays do not match the digest in its metadata.
    """
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        metadata = ClassifierMetadata.model_validate_json(arrays.pop(METADATA).tobytes())
    except (*UNREADABLE_ARRAYS, KeyError) as error:
        raise ModelError(f"{path}: is not a file of classifier weights: {first_line(error)}.") from None
    if (found := weights_digest(arrays)) != metadata.weights_sha256:
        raise ModelError(
            f"{path}: is damaged: the SHA-256 of its weights is {found}; expected {metadata.weights_sha256}."
        )
    return StoredWeights(metadata, arrays)


class Classifier:
    """A classifier with fixed weights.

    Args:
        stored: The weights.

    Attributes:
        metadata: What the weights are.

    Raises:
        ModelError: The weights are not those of the network of their role.
    """

    def __init__(self, stored: StoredWeights) -> None:
        self.metadata = stored.metadata
        self._model = _network(stored)
        signature = [tf.TensorSpec((None, *IMAGE_SHAPE), tf.float32)]
        self._forward = tf.function(
            lambda images: self._model(images, training=False), input_signature=signature, autograph=False
        )

    @property
    def digest(self) -> str:
        """The SHA-256 of the weights."""
        return self.metadata.weights_sha256

    def extract(self, images: np.ndarray) -> Features:
        """Return the features of images float32 (n, 28, 28, 1) in [-1, 1]; n >= 1."""
        batches = [self._forward(images[i : i + IMAGES_PER_CALL]) for i in range(0, len(images), IMAGES_PER_CALL)]
        vectors, logits = (np.concatenate(outputs).astype(np.float64) for outputs in zip(*batches, strict=True))
        return Features(vectors, softmax(logits, axis=1))

    def accuracy(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Return the fraction of images whose most probable class is their label."""
        return float(np.mean(self.extract(images).probabilities.argmax(axis=1) == labels))


def _network(stored: StoredWeights) -> keras.Model:
    config = next((config for config in CONFIGS.values() if config.role == stored.metadata.role), None)
    if config is None:
        raise ModelError(
            f"The weights are for the role {stored.metadata.role!r}; expected one of {', '.join(CONFIGS)}."
        )
    model = config.build(config.seed)
    expected = {variable.path: tuple(variable.shape) for variable in model.weights}
    if {name: array.shape for name, array in stored.arrays.items()} != expected:
        raise ModelError(
            f"The weights are not those of this version's {display_role(config.role)}: they have other names or shapes."
        )
    for variable in model.weights:
        variable.assign(stored.arrays[variable.path].astype(np.float32))
    return model


def classifier_for(
    role: Role, dataset_digest: str, train: Callable[[], Split], test: Split, cache: Path, bundled: Path = BUNDLED
) -> Classifier:
    """Return the classifier of a dataset: bundled, cached, or trained now (in a minute or two) and cached.

    Args:
        role: Role of the classifier.
        dataset_digest: Digest of the dataset, which names its folder in the cache.
        train: Function that returns the training images; called only if a classifier must be trained.
        test: Test images, on which the accuracy is measured.
        cache: Folder of the trained weights, with a folder for each dataset.
        bundled: Folder of the weights that come with the project.

    Raises:
        DataError: The images or labels are unusable.
        ModelError: The bundled weights are missing or damaged.
    """
    if (found := find_classifier(role, dataset_digest, cache, bundled)) is not None:
        return found
    stored = train_weights(CONFIGS[role], dataset_digest, train(), test)
    save_weights(cache / dataset_digest / f"{role}.npz", stored)
    return Classifier(stored)


def find_classifier(role: Role, dataset_digest: str, cache: Path, bundled: Path = BUNDLED) -> Classifier | None:
    """Return the classifier of a dataset if it is bundled or cached; the arguments are those of `classifier_for`.

    Raises:
        ModelError: The bundled weights are missing or damaged.
    """
    stored = load_weights(bundled / f"{role}.npz")
    if stored.metadata.dataset_digest == dataset_digest:
        return Classifier(stored)
    path = cache / dataset_digest / f"{role}.npz"
    if path.exists():
        try:
            return Classifier(load_weights(path))
        except ModelError as error:
            logger.warning("The cached %s is unusable and is trained again: %s", display_role(role), error)
    return None


def train_weights(config: ClassifierConfig, dataset_digest: str, train: Split, test: Split) -> StoredWeights:
    """Return trained weights, rounded to float16, with their accuracy on the test images.

    Raises:
        DataError: The images or labels are unusable.
    """
    images, labels = test
    check_images(images, "test images")
    known = check_labels(labels, len(images), "test images")
    model = train_classifier(config, *train)
    arrays = {variable.path: variable.numpy().astype(STORED_DTYPE) for variable in model.weights}
    metadata = ClassifierMetadata(
        role=config.role, weights_sha256=weights_digest(arrays), dataset_digest=dataset_digest, accuracy=0
    )
    accuracy = Classifier(StoredWeights(metadata, arrays)).accuracy(images, known)
    logger.info("The %s classifies %.2f %% of the test images correctly.", display_role(config.role), 100 * accuracy)
    return StoredWeights(metadata.model_copy(update={"accuracy": accuracy}), arrays)


def train_classifier(config: ClassifierConfig, images: np.ndarray, labels: np.ndarray | None) -> keras.Model:
    """Return a trained classifier; the same arguments on the same machine give the same bits.

    Args:
        config: How the classifier is built and trained.
        images: Training images, float32 (n, 28, 28, 1) in [-1, 1], at least one batch.
        labels: Integers (n,) from 0 to 9.

    Raises:
        DataError: The images or labels are not these.
    """
    check_images(images, "training images", config.batch_size)
    known = check_labels(labels, len(images), "training images")
    model = config.build(config.seed)
    steps = config.epochs * (len(images) // config.batch_size)
    run_epoch = _compile_epoch(model, keras.optimizers.schedules.PolynomialDecay(config.learning_rate, steps, 0))
    windows = _shifted_windows(images)
    for epoch in range(1, config.epochs + 1):
        loss = float(run_epoch(*_epoch_batches(config, epoch, windows, known)))
        name = display_role(config.role)
        logger.info("Training the %s: epoch %d of %d, loss %.4f.", name, epoch, config.epochs, loss)
    return model


def _compile_epoch(
    model: keras.Model, schedule: keras.optimizers.schedules.LearningRateSchedule
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return the function that trains on batches (steps, batch, …) in one call and returns their mean loss."""
    optimizer = keras.optimizers.Adam(schedule, beta_2=0.99)
    optimizer.build(model.trainable_variables)

    # AutoGraph is off: what it rewrites depends on the versions of Python and of the packages it parses with
    @tf.function(reduce_retracing=False, autograph=False)
    def run(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        steps = tf.shape(images)[0]

        def run_step(step: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape() as tape:
                _, logits = model(images[step], training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels[step], logits)
                loss = tf.reduce_mean(losses)
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
            return step + 1, total + loss

        _, total = tf.while_loop(
            lambda step, _: step < steps, run_step, [tf.constant(0), tf.constant(0.0)], parallel_iterations=1
        )
        return total / tf.cast(steps, tf.float32)

    return run


def _shifted_windows(images: np.ndarray) -> np.ndarray:
    """Return a view (n, 3, 3, 28, 28) of every shift of every image; the background, -1, enters at the edges."""
    padded = np.pad(images[..., 0], ((0, 0), (MAX_SHIFT, MAX_SHIFT), (MAX_SHIFT, MAX_SHIFT)), constant_values=-1)
    return np.lib.stride_tricks.sliding_window_view(padded, images.shape[1:3], axis=(1, 2))


def _epoch_batches(
    config: ClassifierConfig, epoch: int, windows: np.ndarray, labels: np.ndarray
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the images float32 (steps, batch, 28, 28, 1) and the labels int32 (steps, batch) of an epoch."""
    draw = numpy_generator(config.seed, Stream.ORDER, epoch)
    steps = len(windows) // config.batch_size
    rows = draw.permutation(len(windows))[: steps * config.batch_size]
    down, right = draw.integers(2 * MAX_SHIFT + 1, size=(2, len(rows)))
    shape = (steps, config.batch_size)
    images = windows[rows, down, right].reshape(*shape, *windows.shape[3:], 1)
    return tf.constant(images), tf.constant(labels[rows].astype(np.int32).reshape(shape))
