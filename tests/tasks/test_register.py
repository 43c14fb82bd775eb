"""The registration task: a version that loads, agrees, tells where it came from, and exists once."""

import hashlib
import json
import re
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
import tensorflow as tf
import yaml
from onnxruntime import InferenceSession

from dcgan.errors import ModelError
from dcgan.export import selected_generator
from dcgan.files import sha256_of_file
from dcgan.report.playground import packed_weights
from dcgan.rng import fixed_latents
from dcgan.training.checkpoint import load_checkpoint
from tasks.register import register
from tracking.registry import find_version, load_generator, load_network, predict_as_served, resolve
from tracking.tags import MODEL_NAME


@pytest.fixture
def expected(trained):
    """Return latents and the images that the trained generator gives for them."""
    latents = fixed_latents(99, 5, 100)
    generator = selected_generator(load_checkpoint(trained.run.folder / "states" / "epoch-000002"))
    return latents, np.asarray(generator(latents, training=False))


def test_the_version_gives_the_trained_images(trained, expected):
    """Loaded through pyfunc it gives float32 (n, 28, 28, 1), those of the generator in memory."""
    latents, images = expected
    served = predict_as_served(trained.context.store, resolve(trained.context.store, trained.version), latents)
    assert (served.dtype, served.shape) == (np.float32, (5, 28, 28, 1))
    np.testing.assert_allclose(served, images, rtol=0, atol=1e-5)


def test_the_run_is_linked_to_its_version(trained):
    """MLflow's pages show the version beside the run, with a server and without."""
    version = resolve(trained.context.store, trained.version)
    logged = trained.context.store.client.get_logged_model(version.model_id)
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": MODEL_NAME, "version": str(trained.version)}]


def test_latents_of_another_shape_are_refused(trained):
    """The signature is enforced."""
    version = resolve(trained.context.store, trained.version)
    with pytest.raises(ModelError, match=r"MLflow cannot serve it: Failed to enforce schema"):
        predict_as_served(trained.context.store, version, np.zeros((2, 99), np.float32))


def test_it_loads_with_stock_keras(trained, expected):
    """The model file needs no custom objects, in safe mode."""
    latents, images = expected
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{MODEL_NAME}/{trained.version}"))
    model = keras.saving.load_model(next(folder.rglob("*.keras")), safe_mode=True)
    assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)
    np.testing.assert_allclose(np.asarray(model(latents, training=False)), images, rtol=0, atol=1e-5)


def test_the_saved_model_serves_by_name(trained, expected):
    """The artifact for TensorFlow Serving has the signature `serving_default`: latents in, images out."""
    latents, images = expected
    folder = trained.context.store.client.download_artifacts(trained.run.run_id, "serving/1")
    serve = tf.saved_model.load(folder).signatures["serving_default"]
    served = serve(latents=tf.constant(latents))["images"]
    np.testing.assert_allclose(served.numpy(), images, rtol=0, atol=1e-5)


def test_the_onnx_file_is_beside_it(trained, expected):
    """The ONNX file of the same artifact gives the trained generator's images."""
    latents, images = expected
    file = trained.context.store.client.download_artifacts(trained.run.run_id, "serving/1/generator.onnx")
    (served,) = InferenceSession(file).run(["images"], {"latents": latents})
    np.testing.assert_allclose(served, images, rtol=0, atol=1e-5)


def test_the_playground_is_in_the_report(trained):
    """The page with the generator is among the run's artifacts, and in its folder."""
    file = trained.context.store.client.download_artifacts(trained.run.run_id, "report/playground.html")
    assert sha256_of_file(Path(file)) == sha256_of_file(trained.run.folder / "report" / "playground.html")
    before, _, rest = Path(file).read_text().partition(' data-slopes="[0.01, 0.01, 0.01]">')
    assert "<dt>Epoch</dt><dd>2 of 2</dd>" in before
    weights = packed_weights(selected_generator(load_checkpoint(trained.run.folder / "states" / "epoch-000002")))
    is_whole = rest.startswith(weights + "</script>")
    assert is_whole


def test_the_version_tells_where_it_came_from(trained):
    """Tags lead to the data and the weights that are served, the description shows the image and the metrics."""
    version = trained.context.store.client.get_model_version(MODEL_NAME, str(trained.version))
    assert version.run_id == trained.run.run_id
    assert version.tags["dcgan.dataset_digest"] == trained.dataset.digest
    assert version.tags["dcgan.dataset_source"] == trained.dataset.manifest.source
    served = load_network(trained.context.store, resolve(trained.context.store, trained.version)).get_weights()
    digest = hashlib.sha256(b"".join(weight.tobytes() for weight in served)).hexdigest()
    assert version.tags["dcgan.generator_sha256"] == digest
    page = (trained.run.folder / "report" / "playground.html").read_text()
    assert f"<dt>Weights</dt><dd>{digest[:12]}</dd>" in page
    assert f"get-artifact?path=report%2Fsamples.png&run_uuid={trained.run.run_id}" in version.description
    assert "| generator loss |" in version.description


def test_the_description_is_the_model_card(trained):
    """The same text is an artifact, with links to the files beside it; its lines load this version's generator."""
    store = trained.context.store
    description = store.client.get_model_version(MODEL_NAME, str(trained.version)).description
    card = Path(store.client.download_artifacts(trained.run.run_id, "report/model-card.md")).read_text()
    assert "](playground.html)" in card
    assert "![sample grid of epoch 2](samples.png)" in card
    assert card.replace("](playground.html)", "](LINK)").replace("](samples.png)", "](LINK)") == re.sub(
        r"\]\(get-artifact[^)]*\)", "](LINK)", description
    )
    (code,) = re.findall(r"^```python\n(.*?)^```", card, flags=re.MULTILINE | re.DOTALL)
    found: dict[str, np.ndarray] = {}
    exec(code, found)  # noqa: S102 - the card's own lines
    generator = load_generator(store, resolve(store, trained.version))
    latents = np.random.default_rng(0).standard_normal((16, 100), dtype=np.float32)
    np.testing.assert_allclose(found["images"], generator(latents), rtol=0, atol=1e-5)


def test_requirements_and_example_are_explicit(trained):
    """What the model needs is pinned, and its input example is sixteen latents."""
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{MODEL_NAME}/{trained.version}"))
    requirements = (folder / "requirements.txt").read_text().splitlines()
    assert [line.split("==")[0] for line in requirements] == ["mlflow", "keras", "tensorflow", "numpy"]
    assert np.shape(json.loads((folder / "serving_input_example.json").read_text())["inputs"]) == (16, 100)


def test_registering_again_gives_the_same_version(trained):
    """A run has one version, however often the task runs."""
    assert (
        register.fn(trained.context, trained.run, trained.dataset.manifest, trained.trained.checkpoint)
        == trained.version
    )
    assert len(trained.context.store.client.search_model_versions(f"run_id = '{trained.run.run_id}'")) == 1


class Intruder(mlflow.pyfunc.PythonModel):
    """A foreign model that runs code of its own when it is loaded."""

    def load_context(self, context):
        """Fail: nobody should have come here."""
        raise AssertionError(f"a foreign model was loaded: {context}")

    def predict(self, model_input: list[str]) -> list[str]:
        """Return nothing of use."""
        return model_input


def test_a_foreign_version_that_names_the_run_is_not_loaded(trained, unregistered_run, monkeypatch):
    """Whoever may register versions could have MLflow unpickle theirs; the run makes its own instead."""
    client = trained.context.store.client
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")  # of the intruder's process
    with mlflow.start_run(experiment_id=trained.context.store.experiment_id):
        foreign = mlflow.pyfunc.log_model(name="foreign", python_model=Intruder(), pip_requirements=[])
    planted = client.create_model_version(
        MODEL_NAME, f"models:/{foreign.model_id}", unregistered_run.run_id, model_id=foreign.model_id
    )
    version = register.fn(trained.context, unregistered_run, trained.dataset.manifest, trained.trained.checkpoint)
    assert version != int(planted.version)
    assert find_version(trained.context.store, unregistered_run.run_id) == version
    client.delete_model_version(MODEL_NAME, planted.version)


@pytest.mark.parametrize(
    "changed", [{"loader_module": "tests.registry"}, pytest.param({"code": "code"}, marks=pytest.mark.slow)]
)
def test_files_that_make_mlflow_import_something_else_are_refused(trained, unregistered_run, changed):
    """The file MLmodel names what MLflow imports; only its own Keras flavor, and no code beside it, is accepted."""
    store = trained.context.store
    version = register.fn(trained.context, unregistered_run, trained.dataset.manifest, trained.trained.checkpoint)
    model_id = store.client.get_model_version(MODEL_NAME, str(version)).source.removeprefix("models:/")
    (path,) = trained.context.settings.artifact_root.rglob(f"{model_id}/artifacts/MLmodel")
    model = yaml.safe_load(path.read_text())
    model["flavors"]["python_function"] |= changed
    path.write_text(yaml.safe_dump(model))
    with pytest.raises(ModelError, match="MLflow would not load it as a Keras model alone"):
        register.fn(trained.context, unregistered_run, trained.dataset.manifest, trained.trained.checkpoint)
    store.client.delete_model_version(MODEL_NAME, str(version))


@pytest.mark.slow
def test_a_model_logged_before_a_crash_is_used(trained, unregistered_run):
    """Killed between logging the model and making its version, the run does not log it twice."""
    store = trained.context.store
    version = register.fn(trained.context, unregistered_run, trained.dataset.manifest, trained.trained.checkpoint)
    store.client.delete_model_version(MODEL_NAME, str(version))
    assert find_version(store, unregistered_run.run_id) is None
    register.fn(trained.context, unregistered_run, trained.dataset.manifest, trained.trained.checkpoint)
    logged = store.client.search_logged_models(
        [store.experiment_id], filter_string=f"source_run_id = '{unregistered_run.run_id}'"
    )
    assert len(logged) == 1


@pytest.mark.slow
def test_a_model_that_a_crash_left_half_logged_is_deleted(trained, unregistered_run):
    """Killed while it logged the model, the run ends with one logged model, the whole one."""
    store = trained.context.store
    half = store.client.create_logged_model(
        store.experiment_id, name="generator", source_run_id=unregistered_run.run_id
    )
    register.fn(trained.context, unregistered_run, trained.dataset.manifest, trained.trained.checkpoint)
    (logged,) = store.client.search_logged_models(
        [store.experiment_id], filter_string=f"source_run_id = '{unregistered_run.run_id}'"
    )
    assert logged.model_id != half.model_id


def test_a_generator_of_another_network_is_registered_without_the_page(pipeline, monkeypatch, log):
    """The page would show other images; whoever has changed the network loses neither the training nor the version."""

    def changed(checkpoint):
        generator = selected_generator(checkpoint)
        layers = [generator.inputs[0], *generator.layers, keras.layers.Activation("tanh", name="mine")]
        return keras.Sequential(layers, name="generator")

    monkeypatch.setattr("tasks.register.selected_generator", changed)
    dataset, context = pipeline.prepare(), pipeline.open()
    run, result = pipeline.train(pipeline.configuration(dataset, epochs=1), dataset, context=context)
    number = register.fn(context, run, dataset.manifest, result.checkpoint)
    assert "The playground does not know the generator's layers mine" in log.text
    assert "The generator is registered without the page." in log.text
    assert "Playground" not in context.store.client.get_model_version(MODEL_NAME, str(number)).description
    assert {file.path for file in context.store.client.list_artifacts(run.run_id, "report")} == {"report/model-card.md"}
