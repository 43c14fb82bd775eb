"""Checkpoints as folders: written whole or not at all, known by their digests, read without pickles.

A folder holds `arrays.npz` (every array by its name), `checkpoint.json` (the rest) and `checkpoint.sha256` (the digests
of both, as `sha256sum --check` takes them).
"""

import logging
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from dcgan.checkpoint import Checkpoint, Description
from dcgan.errors import CheckpointError
from dcgan.files import atomic_folder, sha256_of_file
from dcgan.provenance import Configuration

logger = logging.getLogger(__name__)

ARRAYS_FILE = "arrays.npz"
DESCRIPTION_FILE = "checkpoint.json"
DIGESTS_FILE = "checkpoint.sha256"
GRIDS = "history/grids"
BEST = "best/"

# what NumPy and zipfile raise for files that are not what NumPy wrote; a NotImplementedError is a RuntimeError
UNREADABLE = (OSError, EOFError, MemoryError, RuntimeError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint as the folder `path`, which appears whole or not at all.

    Raises:
        CheckpointError: it cannot be written, as on a full disk; what was there before stays.
    """
    try:
        with atomic_folder(path) as folder:
            best = {f"{BEST}{name}": array for name, array in checkpoint.best.items()}
            np.savez(folder / ARRAYS_FILE, allow_pickle=False, **checkpoint.arrays, **best, **{GRIDS: checkpoint.grids})
            (folder / DESCRIPTION_FILE).write_text(checkpoint.description.model_dump_json(indent=1))
            (folder / DIGESTS_FILE).write_text(_digests(folder))
    except OSError as error:
        reason = error.strerror or _first_line(error)
        raise CheckpointError(
            f"The checkpoint {path} cannot be written: {reason}; those before it are whole."
        ) from None


def load_checkpoint(path: Path) -> Checkpoint:
    """Read the checkpoint in the folder `path`.

    Raises:
        CheckpointError: a file is missing, unreadable, or its digest is not the recorded one.
    """
    try:
        _require_digests(path)
        description = Description.model_validate_json((path / DESCRIPTION_FILE).read_bytes())
        arrays = _read_arrays(path / ARRAYS_FILE)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or DESCRIPTION_FILE
        raise CheckpointError(f"The checkpoint {path} is not of this version: {where}: {first['msg']}.") from None
    except UNREADABLE as error:
        raise CheckpointError(f"The checkpoint {path} is incomplete or unreadable: {_first_line(error)}.") from None
    records, grids = description.records, arrays.pop(GRIDS, np.empty(0))
    if grids.ndim != 3 or not len(grids) == len(records) == description.epoch:
        raise CheckpointError(
            f"The checkpoint {path} is inconsistent: it holds {len(records)} records and grids {grids.shape}, "
            f"expected {description.epoch} of each."
        )
    best = {name.removeprefix(BEST): arrays.pop(name) for name in list(arrays) if name.startswith(BEST)}
    return Checkpoint(description, arrays, grids, best)


def _digests(folder: Path) -> str:
    return "".join(f"{sha256_of_file(folder / name)}  {name}\n" for name in (ARRAYS_FILE, DESCRIPTION_FILE))


def _require_digests(path: Path) -> None:
    recorded = (path / DIGESTS_FILE).read_text().splitlines()
    for line in _digests(path).splitlines():
        if line not in recorded:
            digest, name = line.split()
            raise CheckpointError(
                f"The checkpoint {path} is damaged: {name} has the SHA-256 {digest}, not the one in {DIGESTS_FILE}."
            )


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: np.asarray(file[name]) for name in file.files}


def newest_checkpoint(paths: Iterable[Path], configuration: Configuration) -> Checkpoint | None:
    """Return the first checkpoint of `paths` (newest first) that can be used; a damaged one is passed over.

    Raises:
        CheckpointError: a checkpoint belongs to another configuration.
    """
    return next(_usable(paths, configuration), None)


def _usable(paths: Iterable[Path], configuration: Configuration) -> Iterator[Checkpoint]:
    for path in paths:
        try:
            checkpoint = load_checkpoint(path)
        except CheckpointError as error:
            logger.warning("%s It is passed over.", error)
            continue
        if unlike := checkpoint.description.configuration.differences(configuration):
            raise CheckpointError(f"The checkpoint {path} belongs to another configuration: {', '.join(unlike)}.")
        yield checkpoint


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
