"""The generation task: the same images for the same seed, in every format, from a working generator."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from imageio.v3 import imread

from dcgan.data.parquet import read_parquet
from dcgan.errors import ConfigurationError, ModelError
from tasks.generate import generate


def images_in(folder):
    """Return the images uint8 (n, 28, 28) of a folder."""
    return np.stack([imread(file) for file in sorted(folder.iterdir())])


def test_more_images_begin_with_the_same(trained, tmp_path):
    """The same seed gives the same images, more begin with the same, and another seed gives others."""
    for name, count, seed in (("five", 5, 7), ("again", 5, 7), ("more", 8, 7), ("other", 5, 8)):
        generate.fn(trained.context, trained.version, count, seed, tmp_path / name)
    five = images_in(tmp_path / "five")
    assert five.shape == (5, 28, 28)
    assert np.array_equal(images_in(tmp_path / "again"), five)
    assert np.array_equal(images_in(tmp_path / "more")[:5], five)
    assert not np.array_equal(images_in(tmp_path / "other"), five)


def test_a_grid_has_the_same_images(trained, tmp_path):
    """The grid is the folder's images side by side."""
    made = generate.fn(trained.context, str(trained.version), 4, 7, tmp_path / "grid.png")
    assert (made.version, made.count, made.seed, made.out) == (trained.version, 4, 7, tmp_path / "grid.png")
    generate.fn(trained.context, trained.version, 4, 7, tmp_path / "files")
    rows = images_in(tmp_path / "files").reshape(2, 2, 28, 28).swapaxes(1, 2).reshape(56, 56)
    assert np.array_equal(imread(tmp_path / "grid.png"), rows)


def test_without_a_place_a_grid_goes_to_the_state_folder(in_service):
    """The champion's images, under a name that says which they are."""
    made = generate.fn(in_service.context, "champion", 9, 3, None)
    assert made.out == in_service.context.settings.generated / "version-1-seed-3-count-9.png"
    assert imread(made.out).shape == (84, 84)


def test_parquet_has_the_classifiers_labels(in_service, tmp_path):
    """Real digits, generated, get the classes that they are; the file says what made them and what the labels are."""
    generate.fn(in_service.context, 2, 600, 0, tmp_path / "digits.parquet")
    images, labels = read_parquet(tmp_path / "digits.parquet")
    assert (images.shape, set(labels.tolist())) == ((600, 28, 28, 1), set(range(10)))
    known = 0.999 * in_service.digits.reshape(-1, 784)
    rows = [int(np.abs(known - image).sum(axis=1).argmin()) for image in images[:100].reshape(-1, 784)]
    agree = np.mean(in_service.labels[rows] == labels[:100])
    assert agree > 0.95
    metadata = pq.read_schema(tmp_path / "digits.parquet").metadata
    assert metadata[b"source"] == b"models:/dcgan-generator/2"
    assert metadata[b"seed"] == b"0"
    assert metadata[b"label"] == b"the most probable class by the selection classifier, not one that was asked for"


def test_labels_need_a_classifier(trained, tmp_path):
    """The small dataset has no classifier: one sentence that says how to get one, and no file."""
    with pytest.raises(ModelError) as refusal:
        generate.fn(trained.context, trained.version, 5, 0, tmp_path / "out.parquet")
    assert str(refusal.value) == (
        f"There is no classifier to label the images of version {trained.version}, whose dataset is not MNIST; "
        f"expected 'dcgan evaluate --version {trained.version}' first, which trains one."
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "out", "error", "sentence"),
    [
        ("nobody", "new", ModelError, "The model dcgan-generator has no alias nobody; "),
        (99, "new", ModelError, "The model dcgan-generator has no version 99; "),
        (1, "used", ConfigurationError, "exists; expected the name of a new folder, or an empty one."),
        (
            1,
            "a.gif",
            ConfigurationError,
            "cannot be written as .gif; expected .png, .parquet, or the name of a folder without a dot.",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(in_service, tmp_path, name, out, error, sentence):
    """A version that is not there, a folder in use, a form that is not known: one sentence, nothing written."""
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error) as refusal:
        generate.fn(in_service.context, name, 5, 0, tmp_path / out)
    assert sentence in str(refusal.value)
    assert [path for path in sorted(tmp_path.rglob("*")) if "state" not in path.parts] == [
        path for path in before if "state" not in path.parts
    ]
