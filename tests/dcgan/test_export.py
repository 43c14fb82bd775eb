"""The exported generator: the trained one's images, in stock Keras layers, from every loader."""

import json
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from dcgan.export import export_saved_model
from dcgan.files import TEMPORARY_PREFIX
from dcgan.model.ema import EmaGenerator
from dcgan.recipe import LATENT_SIZE, SMOKE
from dcgan.rng import Stream, fixed_latents, numpy_generator
from dcgan.training.step import Gan

LATENTS = fixed_latents(0, 5, LATENT_SIZE)
TOLERANCE = 5e-5  # of pixels in [-1, 1]: the Fourier domain rounds in other places than stock layers


RECIPE = SMOKE.model_copy(update={"ema_half_life_images": None})


@pytest.fixture(scope="module")
def gan() -> Gan:
    """Return a model all of whose arrays differ from their initial values, as after training."""
    gan = Gan(RECIPE, 5, np.zeros((64, 28, 28, 1), np.float32))
    noise = numpy_generator(5, Stream.LATENTS)
    # factors near 1 keep variances positive; offsets move what begins as zero
    changed = {
        name: (array * noise.uniform(0.5, 2, array.shape) + noise.uniform(0, 0.01, array.shape)).astype(array.dtype)
        for name, array in gan.state().items()
    }
    gan.restore(changed)
    return gan


@pytest.fixture(scope="module")
def generator(gan) -> keras.Model:
    """Return the generator of the model's state."""
    return EmaGenerator(RECIPE, 5).generator(gan.state())


@pytest.fixture(scope="module")
def saved_model(generator, tmp_path_factory) -> Path:
    """Return the folder of the generator as a SavedModel."""
    folder = tmp_path_factory.mktemp("serving") / "dcgan-generator" / "1"
    export_saved_model(generator, folder)
    return folder


def dictionaries(value: Any) -> Iterator[dict]:
    """Yield every dictionary in parsed JSON."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from dictionaries(inner)


def require_images(images: np.ndarray, gan: Gan) -> None:
    """Assert that images are the model's for the latents, of their form and range."""
    assert (images.shape, images.dtype) == ((5, 28, 28, 1), np.float32)
    assert np.abs(images).max() <= 1
    assert images.std() > 0.01
    np.testing.assert_allclose(images, gan.generate(LATENTS), rtol=0, atol=TOLERANCE)


def test_same_images_as_in_training(gan, generator):
    """The generator made from a training run's state gives the images of that training's generator."""
    require_images(np.asarray(generator(LATENTS, training=False)), gan)


def test_it_is_a_copy(gan, generator):
    """Training on does not change the exported generator: they share no variable."""
    before, state = generator.get_weights(), gan.state()
    gan.restore({name: array * 0 for name, array in state.items()})
    after = generator.get_weights()
    gan.restore(state)
    for found, expected in zip(after, before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_layers_are_stock_keras(generator):
    """The model and every layer of it are classes of Keras itself."""
    assert {type(part).__module__.split(".")[0] for part in (generator, *generator.layers)} == {"keras"}


def test_keras_file_needs_no_custom_object(generator, gan, tmp_path, monkeypatch):
    """The .keras file names Keras' own modules only, and loads in safe mode where nothing else is registered."""
    path = tmp_path / "generator.keras"
    generator.save(path)
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    modules = {found["module"] for found in dictionaries(config) if found.get("module")}
    assert {module.split(".")[0] for module in modules} == {"keras"}
    assert {found.get("registered_name") for found in dictionaries(config) if found.get("module")} == {None}
    for name in list(keras.saving.get_custom_objects()):
        monkeypatch.delitem(keras.saving.get_custom_objects(), name)
    loaded = keras.saving.load_model(path, custom_objects=None, compile=True, safe_mode=True)
    require_images(np.asarray(loaded.predict(LATENTS, verbose=0)), gan)


def test_signature_of_the_saved_model(saved_model):
    """TensorFlow Serving finds `serving_default` with one named float32 input and one named float32 output."""
    signature = tf.saved_model.load(str(saved_model)).signatures["serving_default"]
    _, inputs = signature.structured_input_signature
    assert inputs == {"latents": tf.TensorSpec((None, 100), tf.float32, name="latents")}
    ((name, output),) = signature.structured_outputs.items()
    assert (name, output.dtype, output.shape.as_list()) == ("images", tf.float32, [None, 28, 28, 1])


def test_saved_model_gives_the_same_images(saved_model, gan):
    """The SavedModel gives the trained generator's images, in batches of any size."""
    serve = tf.saved_model.load(str(saved_model)).signatures["serving_default"]
    images = serve(latents=tf.constant(LATENTS))["images"].numpy()
    require_images(images, gan)
    single = serve(latents=tf.constant(LATENTS[:1]))["images"].numpy()
    np.testing.assert_allclose(single, images[:1], rtol=0, atol=TOLERANCE)


GRAPH_LOADER = """
import sys
import numpy as np
import tensorflow as tf

with tf.compat.v1.Session(graph=tf.Graph()) as session:
    signature = tf.compat.v1.saved_model.load(session, ["serve"], sys.argv[1]).signature_def["serving_default"]
    feed = {signature.inputs["latents"].name: np.load(sys.argv[2])}
    np.save(sys.argv[3], session.run(signature.outputs["images"].name, feed))
assert "dcgan" not in sys.modules
"""


@pytest.mark.slow
def test_graph_loaders_can_run_the_saved_model(saved_model, gan, tmp_path):
    """TensorFlow Serving's way, which knows neither Python objects nor this project, gives the same images."""
    np.save(tmp_path / "latents.npy", LATENTS)
    files = [saved_model, tmp_path / "latents.npy", tmp_path / "images.npy"]
    subprocess.run([sys.executable, "-I", "-c", GRAPH_LOADER, *files], cwd=tmp_path, check=True)
    require_images(np.load(tmp_path / "images.npy"), gan)


@pytest.mark.slow
def test_saved_model_cli_can_run_it(saved_model, gan, tmp_path):
    """So does TensorFlow's own command."""
    np.save(tmp_path / "latents.npy", LATENTS)
    command = ["run", "--dir", saved_model, "--tag_set", "serve", "--signature_def", "serving_default"]
    inputs = ["--inputs", f"latents={tmp_path / 'latents.npy'}", "--outdir", tmp_path / "out"]
    program = "from tensorflow.python.tools.saved_model_cli import main; main()"
    subprocess.run([sys.executable, "-I", "-c", program, *command, *inputs], cwd=tmp_path, check=True)
    require_images(np.load(tmp_path / "out" / "images.npy"), gan)


@pytest.mark.parametrize("latents", [np.zeros((2, 99), np.float32), np.zeros(100, np.float32), np.zeros((2, 100), int)])
def test_other_latents_are_refused(saved_model, latents):
    """The SavedModel's signature refuses latents of another shape or dtype."""
    serve = tf.saved_model.load(str(saved_model)).signatures["serving_default"]
    with pytest.raises((ValueError, TypeError, tf.errors.InvalidArgumentError)):
        serve(latents=tf.constant(latents))


def test_export_is_whole_or_absent(generator, saved_model, tmp_path):
    """A SavedModel replaces what was there; one that cannot be written leaves it, and nothing else."""
    folder = tmp_path / "1"
    folder.mkdir()
    (folder / "old").write_text("old")
    with pytest.raises(ValueError, match="Invalid resource type"):
        export_saved_model(lambda latents: latents, folder)
    assert (folder / "old").read_text() == "old"
    export_saved_model(generator, folder)
    assert {path.name for path in folder.iterdir()} == {path.name for path in saved_model.iterdir()}
    assert list(tmp_path.glob(f"{TEMPORARY_PREFIX}*")) == []


@pytest.mark.slow
def test_tensorflow_lite_gives_the_same_images(saved_model, gan):
    """The SavedModel converts to TensorFlow Lite, whose interpreter gives the trained generator's images."""
    content = tf.lite.TFLiteConverter.from_saved_model(str(saved_model)).convert()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the interpreter has moved to a package of its own
        interpreter = tf.lite.Interpreter(model_content=content)
    run = interpreter.get_signature_runner("serving_default")
    require_images(run(latents=LATENTS)["images"], gan)
