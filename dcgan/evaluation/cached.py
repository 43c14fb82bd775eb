"""Measurements of a dataset, some by a classifier, as JSON files: bundled for MNIST, else made in a state folder."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from dcgan.errors import first_problem
from dcgan.files import atomic_file

logger = logging.getLogger(__name__)

Measurement = TypeVar("Measurement", bound=BaseModel)


def cached(
    name: str,
    folders: Sequence[Path],
    model: type[Measurement],
    is_usable: Callable[[Measurement], bool],
    measure: Callable[[], Measurement],
) -> Measurement:
    """Return a measurement from a file in one of `folders`, or make it and save it in the last one.

    Args:
        name: Name of the file.
        folders: Folders to search, in order; without any, nothing is saved.
        model: What the file contains.
        is_usable: Whether a file's content is of the right dataset and classifier.
        measure: Makes the measurement.
    """
    for folder in folders:
        if (found := _read(folder / name, model)) is not None and is_usable(found):
            return found
    measured = measure()
    if folders:
        with atomic_file(folders[-1] / name) as temporary:
            temporary.write_text(measured.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return measured


def _read(path: Path, model: type[Measurement]) -> Measurement | None:
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = error.strerror
    except ValidationError as error:
        reason = first_problem(error, "all of it")
    logger.warning("%s cannot be used (%s), so its content is measured again.", path, reason)
    return None
