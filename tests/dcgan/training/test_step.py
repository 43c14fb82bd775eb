"""The training step against one written plainly, and what makes it restartable: stateless, one trace, exact bits."""

import hashlib
import inspect
import subprocess
import sys
from dataclasses import replace
from itertools import product

import keras
import numpy as np
import pytest
import tensorflow as tf

from dcgan.cpu.fourier import from_grid
from dcgan.data.idx import read_images
from dcgan.errors import CheckpointError
from dcgan.model.dropout import dropout_mask, dropout_scale
from dcgan.model.ema import EmaGenerator
from dcgan.recipe import CLASSIC, FAST, LATENT_SIZE, PENALTY_INTERVAL, SMOKE, Recipe
from dcgan.rng import Stream, fixed_latents
from dcgan.training.device import choose_devices
from dcgan.training.step import Gan, StepMetrics

BATCH, STEPS, SEED = 16, 4, 7
RECIPE = CLASSIC.model_copy(update={"batch_size": BATCH, "generator_learning_rate": 2e-4})
ORDER = np.random.default_rng(0).permutation(BATCH * STEPS).reshape(STEPS, BATCH).astype(np.int32)
CONVOLUTIONS = ["direct", "dft"]
# without averaged weights and with a constant rate, so that nothing but the step differs
FAST_RECIPE = RECIPE.model_copy(
    update=FAST.model_dump(include={"negative_slope", "dropout_rate", "discriminator_maps", "hidden_units", "r1_gamma"})
)


@pytest.fixture(scope="module")
def images(mnist_folder) -> np.ndarray:
    """Return the first digits of MNIST, float32 (64, 28, 28, 1) in [-1, 1]."""
    digits = read_images(mnist_folder / "train-images-idx3-ubyte.gz")[: BATCH * STEPS]
    return ((digits.astype(np.float32) - 127.5) / 127.5)[..., None]


WAYS = {
    f"{name}-{convolution}": recipe.model_copy(update={"convolution": convolution})
    for name, recipe in (("classic", RECIPE), ("fast", FAST_RECIPE))
    for convolution in CONVOLUTIONS
}
either_way = pytest.mark.parametrize("trained", ["classic-direct", "fast-dft"], indirect=True)


@pytest.fixture(scope="module")
def trained(request, images) -> tuple[Gan, dict[str, np.ndarray], StepMetrics]:
    """Return a model after four steps, its state before them, and what they measured."""
    gan = Gan(WAYS[request.param], SEED, images)
    before = gan.state()
    return gan, before, gan.run(ORDER, first_step=0)


class PlainGan:
    """The step in stock Keras: two tapes, two cross entropies, two Adams. Only the random numbers are given.

    As the reference implementation has it, or with the hidden layer and the gradient penalty of a recipe.
    """

    def __init__(self, state: dict[str, np.ndarray], recipe: Recipe) -> None:
        layers = keras.layers
        self.recipe = recipe
        self.generator = keras.Sequential(
            [
                keras.Input((100,)),
                layers.Dense(7 * 7 * 256, use_bias=False),
                layers.BatchNormalization(),
                layers.LeakyReLU(recipe.negative_slope),
                layers.Reshape((7, 7, 256)),
                layers.Conv2DTranspose(128, 5, strides=1, padding="same", use_bias=False),
                layers.BatchNormalization(),
                layers.LeakyReLU(recipe.negative_slope),
                layers.Conv2DTranspose(64, 5, strides=2, padding="same", use_bias=False),
                layers.BatchNormalization(),
                layers.LeakyReLU(recipe.negative_slope),
                layers.Conv2DTranspose(1, 5, strides=2, padding="same", use_bias=False, activation="tanh"),
            ]
        )
        maps = recipe.discriminator_maps
        image, *masks = keras.Input((28, 28, 1)), keras.Input((14, 14, maps)), keras.Input((7, 7, 2 * maps))
        x = layers.LeakyReLU(recipe.negative_slope)(layers.Conv2D(maps, 5, strides=2, padding="same")(image))
        x = layers.LeakyReLU(recipe.negative_slope)(layers.Conv2D(2 * maps, 5, strides=2, padding="same")(x * masks[0]))
        x = layers.Flatten()(x * masks[1])
        if recipe.hidden_units:
            x = layers.LeakyReLU(recipe.negative_slope)(layers.Dense(recipe.hidden_units)(x))
        logit = layers.Dense(1)(x)
        self.discriminator = keras.Model([image, *masks], logit)
        for name, network in (("generator", self.generator), ("discriminator", self.discriminator)):
            network.set_weights([array for key, array in state.items() if key.startswith(f"{name}/")])
        self.optimizers = keras.optimizers.Adam(2e-4), keras.optimizers.Adam(1e-4)
        self.cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)

    def step(
        self, images: np.ndarray, latents: tf.Tensor, masks: list[tuple[tf.Tensor, tf.Tensor]], *, penalized: bool
    ) -> list[float]:
        """Update both networks; return the generator's and the discriminator's loss, without penalty."""
        of_real, of_generated = masks
        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            generated = self.generator(latents, training=True)
            real_logits = self.discriminator([tf.constant(images), *of_real], training=True)
            generated_logits = self.discriminator([generated, *of_generated], training=True)
            ones, zeros = tf.ones_like(real_logits), tf.zeros_like(real_logits)
            generator_loss = self.cross_entropy(ones, generated_logits)
            discriminator_loss = self.cross_entropy(ones, real_logits) + self.cross_entropy(zeros, generated_logits)
            objective = discriminator_loss + (self.penalty(images, of_real) if penalized else 0)
        networks = (self.generator, self.discriminator)
        tapes, objectives = (generator_tape, discriminator_tape), (generator_loss, objective)
        variables = [network.trainable_variables for network in networks]
        gradients = [tape.gradient(*pair) for tape, *pair in zip(tapes, objectives, variables, strict=True)]
        for optimizer, gradient, those in zip(self.optimizers, gradients, variables, strict=True):
            optimizer.apply(gradient, those)
        return [float(generator_loss), float(discriminator_loss)]

    def penalty(self, images: np.ndarray, masks: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Return R1's penalty, which stands for those of the steps without one."""
        real = tf.constant(images)
        with tf.GradientTape() as tape:
            tape.watch(real)
            logits = self.discriminator([real, *masks], training=True)
        squares = tf.reduce_sum(tape.gradient(logits, real) ** 2, axis=[1, 2, 3])
        return self.recipe.r1_gamma / 2 * PENALTY_INTERVAL * tf.reduce_mean(squares)


def fold(stream: Stream, step: int) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in([SEED, int(stream)], step, alg="philox")


def keep_masks(convolution: str, step: int, recipe: Recipe) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Return the step's scaled dropout masks of the real and of the generated images, float32 (batch, h, w, c)."""
    by_layer, rate, maps = [], recipe.dropout_rate, recipe.discriminator_maps
    for index, (size, channels, stride) in enumerate([(14, maps, 2), (7, 2 * maps, 1)]):
        plain, grid = [2 * BATCH, size, size, channels], [49, 2 * BATCH, stride**2 * channels]
        shape, axis = (grid, 1) if convolution == "dft" else (plain, 0)
        mask = 1 - tf.cast(dropout_mask(fold(Stream.DROPOUT, step), index, rate, shape, axis), tf.float32)
        mask = from_grid(mask, (7, 7), stride) if convolution == "dft" else mask
        by_layer.append(mask * dropout_scale(rate))
    return [tuple(mask[which::2] for mask in by_layer) for which in (0, 1)]


@pytest.mark.parametrize("trained", WAYS, indirect=True)
def test_steps_are_the_plain_step(trained, images):
    """Four whole steps of both networks give the losses, weights and Adam moments of the step written plainly."""
    require_plain_steps(*trained, images)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["classic-direct", "fast-direct"])
def test_xla_takes_the_plain_step(way, images, monkeypatch):
    """So do the steps that XLA compiles, as on a GPU, here on the processor: they have the same latents and masks."""
    here = choose_devices("cpu")
    monkeypatch.setattr("dcgan.training.step.choose_devices", lambda _: replace(here, xla=True))
    monkeypatch.setattr("dcgan.training.step.XLA_STEPS", 2)  # one step in a call that has room for two, then three
    gan = Gan(WAYS[way], SEED, images)
    before = gan.state()
    halves = gan.run(ORDER[:1], first_step=0), gan.run(ORDER[1:], first_step=1)
    require_plain_steps(gan, before, StepMetrics(*map(np.concatenate, zip(*halves, strict=True))), images)
    assert gan._run_compiled.experimental_get_tracing_count() == 1


def require_plain_steps(gan: Gan, before: dict[str, np.ndarray], metrics: StepMetrics, images: np.ndarray) -> None:
    """Compare a model that has taken four steps with the step written plainly."""
    plain = PlainGan(before, gan.recipe)
    losses = []
    for step, rows in enumerate(ORDER):
        latents = tf.random.stateless_normal([BATCH, LATENT_SIZE], fold(Stream.LATENTS, step), alg="philox")
        masks = keep_masks(gan.passes.name, step, gan.recipe)
        penalized = gan.recipe.r1_gamma > 0 and step % PENALTY_INTERVAL == 0
        losses.append(plain.step(images[rows], latents, masks, penalized=penalized))
    measured = np.stack([metrics.generator_loss, metrics.discriminator_loss], axis=1)
    np.testing.assert_allclose(measured, losses, rtol=1e-4)

    # the less a rectifier leaks and the fewer maps there are, the more a sign that rounding decides changes
    tolerance = 5e-3 if gan.recipe.negative_slope == CLASSIC.negative_slope else 4e-2
    after = gan.state()
    for network, optimizer, name in zip(
        (plain.generator, plain.discriminator), plain.optimizers, ("generator", "discriminator"), strict=True
    ):
        names = [key for key in after if key.startswith(f"{name}/")]
        for key, expected in zip(names, network.get_weights(), strict=True):
            require_same_change(before[key], after[key], expected, tolerance)
        # Adam's state: iterations and learning rate, then momentum and velocity of each variable
        for key, variable in zip(
            [key for key in after if key.startswith(f"{name}_adam/")], optimizer.variables, strict=True
        ):
            require_same_change(before[key], after[key], variable.numpy(), tolerance)


def require_same_change(before, actual, expected, tolerance):
    """What changed is the same, in the Euclidean norm, to a share of it.

    A single weight may differ by more: where a gradient is all rounding error, Adam makes a whole step of it.
    """
    difference = np.linalg.norm(np.asarray(actual, np.float64) - expected)
    assert difference <= tolerance * np.linalg.norm(np.asarray(expected, np.float64) - before)


def test_convolutions_share_one_state(images):
    """A state of direct convolutions can be restored with dft ones: the same names, shapes, dtypes, initial values."""
    direct, dft = (Gan(RECIPE.model_copy(update={"convolution": c}), SEED, images).state() for c in CONVOLUTIONS)
    assert list(direct) == list(dft)
    assert all(direct[name].tobytes() == dft[name].tobytes() for name in direct)


@either_way
def test_two_halves_are_the_whole(trained, images):
    """Two steps, a new model restored from their state, and two more steps give the bits of four steps in one call."""
    gan, _, metrics = trained
    first, second = (Gan(gan.recipe, SEED, images) for _ in range(2))
    first.run(ORDER[:2], first_step=0)
    second.restore(first.state())
    rest = second.run(ORDER[2:], first_step=2)
    whole, halves = gan.state(), second.state()
    assert [name for name in whole if whole[name].tobytes() != halves[name].tobytes()] == []
    for name in StepMetrics._fields:
        assert getattr(rest, name).tobytes() == getattr(metrics, name)[2:].tobytes()


def digests_of_every_mode() -> list[str]:
    """Return the SHA-256 of the state after two steps, for every way to compute a step."""
    images = np.linspace(-1, 1, 8 * 784, dtype=np.float32).reshape(8, 28, 28, 1)
    digests = []
    for convolution, precision in product(("direct", "dft"), ("float32", "mixed_bfloat16")):
        recipe = SMOKE.model_copy(update={"convolution": convolution, "precision": precision, "batch_size": 4})
        gan = Gan(recipe, 3, images)
        gan.run(np.arange(8, dtype=np.int32).reshape(2, 4), 0)
        digests.append(hashlib.sha256(b"".join(array.tobytes() for array in gan.state().values())).hexdigest())
    return digests


@pytest.mark.slow
def test_two_processes_give_the_same_bits():
    """The same seed gives the same bits in another process, for every way to compute a step."""
    imports = "import hashlib, numpy as np\nfrom itertools import product\nfrom dcgan.recipe import SMOKE\n"
    imports += "from dcgan.training.step import Gan\n"
    program = imports + inspect.getsource(digests_of_every_mode) + "print(*digests_of_every_mode())"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as other:
        here = digests_of_every_mode()
        assert other.communicate(timeout=120)[0].split() == here
    assert len(set(here)) == len(here)


@either_way
def test_one_trace_however_many_steps(trained, images):
    """Calls of any number of steps, and images of any number of latents, run the functions compiled first."""
    gan, *_ = trained
    again = Gan(gan.recipe, SEED, images)
    for steps in (1, 2, 1):
        assert len(again.run(ORDER[:steps], first_step=0).generator_loss) == steps
    for count in (1, 5):
        assert again.generate(fixed_latents(0, count, LATENT_SIZE)).shape == (count, 28, 28, 1)
    assert [function.experimental_get_tracing_count() for function in (again._run, again._generate)] == [1, 1]


@either_way
def test_metrics_are_means_over_the_batch(trained):
    """Losses are those of a young GAN, accuracies integers of images in the batch."""
    _, _, metrics = trained
    for name, values in metrics._asdict().items():
        assert (values.shape, values.dtype) == ((STEPS,), np.float32), name
    assert np.abs(metrics.generator_loss - np.log(2)).max() < 0.4
    assert np.abs(metrics.discriminator_loss - 2 * np.log(2)).max() < 0.6
    for accuracy in (metrics.real_accuracy, metrics.generated_accuracy):
        assert ((accuracy * BATCH) % 1 == 0).all()
        assert ((accuracy >= 0) & (accuracy <= 1)).all()


@either_way
def test_exported_generator_gives_the_same_images(trained):
    """The stock generator of the state makes the images that the model makes, whatever its convolutions are."""
    gan, *_ = trained
    latents = fixed_latents(0, 3, LATENT_SIZE)
    np.testing.assert_allclose(
        EmaGenerator(gan.recipe, SEED).generator(gan.state())(latents), gan.generate(latents), atol=1e-5
    )


@either_way
def test_mixed_precision_trains(trained, images):
    """In mixed precision, images and losses are near those of float32, and weights stay float32."""
    generated, losses = [], []
    for precision in ("float32", "mixed_bfloat16"):
        gan = Gan(trained[0].recipe.model_copy(update={"precision": precision}), SEED, images)
        generated.append(gan.generate(fixed_latents(0, 3, LATENT_SIZE)))
        losses.append(gan.run(ORDER, first_step=0).discriminator_loss)
        assert {array.dtype.name for name, array in gan.state().items() if "adam" not in name} == {"float32"}
    np.testing.assert_allclose(generated[1], generated[0], atol=0.05 * np.abs(generated[0]).max())
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.05)


@pytest.mark.parametrize("trained", ["classic-direct"], indirect=True)
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s.pop("generator/refine/kernel"), r"not this model's: generator/refine/kernel \(of 1\)\.$"),
        (lambda s: s.update(other=np.zeros(1)), r"not this model's: other \(of 1\)\.$"),
        (
            lambda s: s.update({"discriminator/logit/bias": np.zeros(2, np.float32)}),
            r"logit/bias is float32 \(2,\); expected float32 \(1,\)\.$",
        ),
        (
            lambda s: s.update({"discriminator/logit/bias": np.zeros(1, np.float64)}),
            r"logit/bias is float64 \(1,\); expected float32 \(1,\)\.$",
        ),
    ],
    ids=["missing", "unknown", "shape", "dtype"],
)
def test_another_models_state_is_refused(trained, change, sentence):
    """A state that is not this model's is refused by name, and nothing is changed."""
    gan, before, _ = trained
    here = gan.state()
    wrong = dict(before)
    change(wrong)
    with pytest.raises(CheckpointError, match=sentence):
        gan.restore(wrong)
    assert all(array.tobytes() == here[name].tobytes() for name, array in gan.state().items())
