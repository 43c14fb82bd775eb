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
import onnxruntime
import pytest
import tensorflow as tf

from dcgan.export import export_generator
from dcgan.files import TEMPORARY_PREFIX
from dcgan.model.ema import EmaGenerator
from dcgan.recipe import LATENT_SIZE, SMOKE, Recipe
from dcgan.rng import Stream, fixed_latents, numpy_generator
from dcgan.training.step import Gan

LATENTS = fixed_latents(0, 5, LATENT_SIZE)
TOLERANCE = 5e-5  # of pixels in [-1, 1]: the Fourier domain rounds in other places than stock layers


RECIPE = SMOKE.model_copy(update={"ema_half_life_images": None})


def changed_gan(recipe: Recipe) -> Gan:
    """Return a model all of whose arrays differ from their initial values, as after training."""
    gan = Gan(recipe, 5, np.zeros((64, 28, 28, 1), np.float32))
    noise = numpy_generator(5, Stream.LATENTS)
    # factors near 1 keep variances positive; offsets move what begins as zero
    changed = {
        name: (array * noise.uniform(0.5, 2, array.shape) + noise.uniform(0, 0.01, array.shape)).astype(array.dtype)
        for name, array in gan.state().items()
    }
    gan.restore(changed)
    return gan


@pytest.fixture(scope="module")
def gan() -> Gan:
    """Return a changed model of the recipe."""
    return changed_gan(RECIPE)


@pytest.fixture(scope="module")
def generator(gan) -> keras.Model:
    """Return the generator of the model's state."""
    return EmaGenerator(RECIPE, 5).generator(gan.state())


@pytest.fixture(scope="module")
def saved_model(generator, tmp_path_factory) -> Path:
    """Return the folder of the exported generator."""
    folder = tmp_path_factory.mktemp("serving") / "dcgan-generator" / "1"
    export_generator(generator, folder)
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


ONNX_RUNTIME = """
import sys
sys.path.append(sys.argv.pop(1))
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
(latents,), (images,) = session.get_inputs(), session.get_outputs()
assert (latents.name, latents.type, latents.shape) == ("latents", "tensor(float)", ["n", 100])
assert (images.name, images.type, images.shape) == ("images", "tensor(float)", ["n", 28, 28, 1])
inputs = np.load(sys.argv[2])
np.save(sys.argv[3], session.run(["images"], {"latents": inputs})[0])
np.save(sys.argv[4], session.run(["images"], {"latents": inputs[:1]})[0])
assert not {"dcgan", "tensorflow", "keras"} & set(sys.modules)
try:
    import dcgan
except ImportError:
    sys.exit()
sys.exit("this process can import the project")
"""


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="fast"),
        pytest.param({"precision": "mixed_bfloat16"}, id="mixed", marks=pytest.mark.slow),
        pytest.param({"convolution": "dft", "negative_slope": 0.3}, id="dft", marks=pytest.mark.slow),
    ],
)
def test_onnx_runtime_gives_the_same_images(changes, tmp_path):
    """ONNX Runtime, without this project or TensorFlow, gives the generator's images in any batch, of any recipe."""
    recipe = SMOKE.model_copy(update=changes)
    generator = EmaGenerator(recipe, 5).generator(changed_gan(recipe).state())
    export_generator(generator, tmp_path / "1")
    np.save(tmp_path / "latents.npy", LATENTS)
    files = [tmp_path / name for name in ("1/generator.onnx", "latents.npy", "images.npy", "single.npy")]
    # without the site module no .pth file is read, so the checkout is not on the path although it is installed
    packages = Path(onnxruntime.__file__).parents[1]
    subprocess.run([sys.executable, "-I", "-S", "-c", ONNX_RUNTIME, packages, *files], cwd=tmp_path, check=True)
    expected = np.asarray(generator(LATENTS, training=False))
    assert expected.std() > 0.01
    for name, images in (("images.npy", expected), ("single.npy", expected[:1])):
        found = np.load(tmp_path / name)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, images, rtol=0, atol=1e-5)


@pytest.mark.parametrize("latents", [np.zeros((2, 99), np.float32), np.zeros(100, np.float32), np.zeros((2, 100), int)])
def test_other_latents_are_refused(saved_model, latents):
    """The SavedModel's signature refuses latents of another shape or dtype."""
    serve = tf.saved_model.load(str(saved_model)).signatures["serving_default"]
    with pytest.raises((ValueError, TypeError, tf.errors.InvalidArgumentError)):
        serve(latents=tf.constant(latents))


def test_export_is_whole_or_absent(generator, saved_model, tmp_path):
    """One that cannot be written leaves nothing, and one that is written leaves what is there already."""
    folder = tmp_path / "1"
    with pytest.raises(ValueError, match="Invalid resource type"):
        export_generator(lambda latents: latents, folder)
    assert list(tmp_path.iterdir()) == []
    folder.mkdir()
    (folder / "old").write_text("old")
    with pytest.raises(FileExistsError, match="exists"):
        export_generator(generator, folder)
    assert [path.name for path in folder.iterdir()] == ["old"]
    (folder / "old").unlink()
    export_generator(generator, folder)
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
