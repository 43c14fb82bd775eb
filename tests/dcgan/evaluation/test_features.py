"""The images and labels that are refused before anything is evaluated."""

import numpy as np
import pytest

from dcgan.errors import DataError
from dcgan.evaluation.features import check_images, check_labels


def _images(rows=1000, size=28, dtype=np.float32, value=0.0):
    images = np.zeros((rows, size, size, 1), dtype)
    images[rows // 2, 3, 4, 0] = value
    return images


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (_images(999), "There are 999 images to evaluate; expected at least 1000."),
        (_images(size=32), "The images to evaluate are float32 (1000, 32, 32, 1); expected float32 (n, 28 × 28 × 1)."),
        (_images()[..., 0], "The images to evaluate are float32 (1000, 28, 28); expected float32 (n, 28 × 28 × 1)."),
        (_images(dtype=np.uint8), "The images to evaluate are uint8 (1000, 28, 28, 1); expected float32"),
        (
            _images(value=np.nan),
            "The images to evaluate have values that are not finite; expected values from -1 to 1.",
        ),
        (
            _images(value=np.inf),
            "The images to evaluate have values that are not finite; expected values from -1 to 1.",
        ),
        (_images(value=-1.5), "The images to evaluate have the value -1.5; expected values from -1 to 1."),
        (_images(value=255), "The images to evaluate have the value 255; expected values from -1 to 1."),
    ],
)
def test_images_that_cannot_be_evaluated_are_refused(images, sentence):
    """Too few, another shape or type, not finite, out of range: one sentence each."""
    with pytest.raises(DataError) as caught:
        check_images(images)
    assert str(caught.value).startswith(sentence)


def test_images_in_range_pass():
    """The limits are included in the range."""
    check_images(_images(value=-1))
    check_images(_images(value=1))


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (None, "The training images have no labels; expected one label from 0 to 9 for each."),
        (np.zeros(4, np.uint8), "There are 3 training images but labels of shape (4,); expected one label for each."),
        (np.array([0, 10, 2]), "The labels of the training images are not integers from 0 to 9."),
        (np.array([0, -1, 2]), "The labels of the training images are not integers from 0 to 9."),
        (np.array([0.0, 1, 2]), "The labels of the training images are not integers from 0 to 9."),
    ],
)
def test_unusable_labels_are_refused(labels, sentence):
    """Absent, of another number, out of range, not integers: one sentence each."""
    with pytest.raises(DataError) as caught:
        check_labels(labels, 3, "training images")
    assert str(caught.value) == sentence
