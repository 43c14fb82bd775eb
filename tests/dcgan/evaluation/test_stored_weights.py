"""Files of weights: intact, identified by digest, and never executed."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcgan.errors import ModelError
from dcgan.evaluation.classifiers import (
    BUNDLED,
    ClassifierMetadata,
    StoredWeights,
    load_weights,
    save_weights,
    weights_digest,
)


def _stored():
    arrays = {"a/kernel": np.arange(6, dtype=np.float16).reshape(2, 3), "a/bias": np.zeros(3, np.float16)}
    metadata = ClassifierMetadata(
        role="selection", weights_sha256=weights_digest(arrays), dataset_digest="0" * 64, accuracy=0.5
    )
    return StoredWeights(metadata, arrays)


def test_saved_weights_are_loaded(tmp_path):
    """Metadata, names, order, dtypes and values are the same, and saving again gives the same bytes."""
    for name in ("one.npz", "two.npz"):
        save_weights(tmp_path / name, _stored())
    loaded = load_weights(tmp_path / "one.npz")
    assert loaded.metadata == _stored().metadata
    assert list(loaded.arrays) == ["a/kernel", "a/bias"]
    for name, array in _stored().arrays.items():
        np.testing.assert_array_equal(loaded.arrays[name], array, strict=True)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_the_digest_distinguishes_values_shapes_names_and_order():
    """Each of them changes the digest."""
    arrays = _stored().arrays
    kernel, bias = arrays.values()
    others = [
        {"a/kernel": kernel + 1, "a/bias": bias},
        {"a/kernel": kernel.reshape(3, 2), "a/bias": bias},
        {"b/kernel": kernel, "a/bias": bias},
        {"a/bias": bias, "a/kernel": kernel},
    ]
    assert len({weights_digest(arrays), *map(weights_digest, others)}) == 5


def test_a_file_that_is_missing_or_damaged_is_named(tmp_path):
    """No file, an empty one, a cut one, other bytes, a pickle, a single array: one sentence that names it."""
    whole = (BUNDLED / "held_out.npz").read_bytes()
    with pytest.raises(ModelError, match=r"absent\.npz: is not a file of classifier weights"):
        load_weights(tmp_path / "absent.npz")
    np.savez(tmp_path / "pickle.npz", metadata=np.array([{}], dtype=object))
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    contents = {"empty": b"", "cut": whole[:-1000], "text": b"not weights", "middle": whole[:500] + whole[700:]}
    for name, content in contents.items():
        (tmp_path / f"{name}.npz").write_bytes(content)
    for name in (*contents, "pickle", "array"):
        with pytest.raises(ModelError, match=rf"{name}\.npz: is not a file of classifier weights"):
            load_weights(tmp_path / f"{name}.npz")


def test_weights_of_another_digest_are_refused(tmp_path):
    """An array that was changed after the digest was computed."""
    stored = _stored()
    stored.arrays["a/bias"][1] = 1
    save_weights(tmp_path / "changed.npz", stored)
    with pytest.raises(ModelError, match=r"changed\.npz: is damaged: the SHA-256 of its weights is "):
        load_weights(tmp_path / "changed.npz")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=4))
def test_damage_anywhere_is_a_model_error_or_harmless(tmp_path, changes):
    """Any changed bytes either leave the weights the same or raise this error."""
    path = tmp_path / "damaged.npz"
    save_weights(path, _stored())
    content = bytearray(path.read_bytes())
    for position, value in changes:
        content[position % len(content)] = value
    path.write_bytes(content)
    with suppress(ModelError):
        assert weights_digest(load_weights(path).arrays) == weights_digest(_stored().arrays)
