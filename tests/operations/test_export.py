"""`dcgan export`: a registered version as a SavedModel and an ONNX file, or one sentence."""

import numpy as np
import pytest
import tensorflow as tf
from onnxruntime import InferenceSession

from dcgan.rng import fixed_latents
from operations.export import main
from tracking.registry import load_generator, resolve


def test_a_version_is_exported_again(trained, tmp_path, capsys):
    """Both files give the version's images, and the command says where they are."""
    out = tmp_path / "dcgan-generator" / "1"
    assert main(["--version", str(trained.version), str(out)]) == 0
    onnx_file = out / "generator.onnx"
    assert capsys.readouterr().out == (
        f"Version {trained.version} is a SavedModel in {out}, and an ONNX file in {onnx_file}.\n"
    )
    store, latents = trained.context.store, fixed_latents(3, 4, 100)
    serve = tf.saved_model.load(str(out)).signatures["serving_default"]
    images = serve(latents=tf.constant(latents))["images"].numpy()
    expected = load_generator(store, resolve(store, trained.version))(latents)
    np.testing.assert_allclose(images, expected, rtol=0, atol=1e-5)
    (images,) = InferenceSession(onnx_file).run(["images"], {"latents": latents})
    np.testing.assert_allclose(images, expected, rtol=0, atol=1e-5)


def test_a_folder_that_exists_is_refused(trained, tmp_path, capsys):
    """Nothing is written into it."""
    assert main(["--version", str(trained.version), str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}: exists already; expected the name of a new folder.\n"
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_version_is_one_sentence(trained, tmp_path, capsys):
    """One sentence, and nothing is written."""
    assert main(["--version", "99", str(tmp_path / "1")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: The model dcgan-generator has no version 99; expected the number of a version (the ")
    assert trained.version != 99
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", ["²", "٣", "9" * 20])
def test_a_number_that_no_version_has(trained, tmp_path, capsys, number):
    """Other scripts' digits name no version, and neither do numbers that no database can store."""
    assert main(["--version", number, str(tmp_path / "1")]) == 1
    assert (
        f"error: The model dcgan-generator has no {'version' if number.isascii() else 'alias'} {number}; expected"
        in (capsys.readouterr().err)
    )
    assert list(tmp_path.iterdir()) == []
