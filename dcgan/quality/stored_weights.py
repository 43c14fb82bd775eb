"""A classifier's weights as one file of plain arrays: float16, no pickles, known by a digest.

The file is an npz archive with an array for each weight, and `card`, the UTF-8 bytes of a JSON object that says what
the weights are. The digest is of the arrays alone, so it does not depend on the archive's compression.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from dcgan.errors import ModelError
from dcgan.files import atomic_file

CARD = "card"
STORED_DTYPE = np.dtype("<f2")
# what np.load and zipfile raise on arbitrary bytes: TypeError for a single array, RuntimeError for "encrypted" flags
UNREADABLE = (OSError, EOFError, KeyError, TypeError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)


class Card(BaseModel):
    """What a file of weights holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: str = Field(description="evaluator or judge")
    weights_sha256: str = Field(description="digest of the arrays")
    dataset_digest: str = Field(description="of the data set whose training half it was trained on")
    accuracy: float = Field(ge=0, le=1, description="share of the test half that these weights get right")


@dataclass(frozen=True)
class StoredWeights:
    """Weights float16 by name, in the network's order, and what they are."""

    card: Card
    arrays: dict[str, np.ndarray]


def weights_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 over name, shape and little-endian float16 bytes of each array, in order."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array, STORED_DTYPE).tobytes())
    return digest.hexdigest()


def save_weights(path: Path, stored: StoredWeights) -> None:
    """Write `stored` to `path`, whole or not at all; the same weights give the same bytes."""
    card = np.frombuffer(stored.card.model_dump_json().encode(), np.uint8)
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **{CARD: card}, **stored.arrays)


def load_weights(path: Path) -> StoredWeights:
    """Read the weights in `path`.

    Raises:
        ModelError: the file is missing, is not such an archive, or its arrays are not those of the card's digest.
    """
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        card = Card.model_validate_json(arrays.pop(CARD).tobytes())
    except UNREADABLE as error:
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise ModelError(f"{path}: is not a file of a classifier's weights: {reason}.") from None
    if (found := weights_digest(arrays)) != card.weights_sha256:
        raise ModelError(f"{path}: is damaged: the weights' SHA-256 is {found}; expected {card.weights_sha256}.")
    return StoredWeights(card, arrays)
