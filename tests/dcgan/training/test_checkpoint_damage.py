"""A checkpoint that is damaged or forged gives a sentence that names it and says how; nothing in it is executed."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dcgan.errors import CheckpointError
from dcgan.files import sha256_of_file
from dcgan.training.checkpoint import ARRAYS_FILE, DIGESTS_FILE, GRIDS, METADATA_FILE, load_checkpoint
from tests.checkpoints import ARRAYS, FILES, edit, flipped


class Pwned:
    """An object whose unpickling writes the file `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
        return Path.touch, (self.path,)


def edit_description(folder: Path, change: Callable[[dict], object]) -> None:
    """Change the parsed JSON of a checkpoint in place."""
    content = json.loads((folder / METADATA_FILE).read_text())
    change(content)
    (folder / METADATA_FILE).write_text(json.dumps(content))


def forge(folder: Path) -> None:
    """Make the digests fit, as one can who may write all files."""
    lines = [f"{sha256_of_file(folder / name)}  {name}\n" for name in (ARRAYS_FILE, METADATA_FILE)]
    (folder / DIGESTS_FILE).write_text("".join(lines))


def replace_arrays(folder: Path, content: bytes) -> None:
    """Put other arrays into a checkpoint, with the digest that they have."""
    (folder / ARRAYS_FILE).write_bytes(content)
    forge(folder)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


DAMAGE = {
    **{f"{name} cut": lambda f, name=name: edit(f / name, lambda b: b[: len(b) // 2]) for name in FILES},
    **{f"{name} empty": lambda f, name=name: edit(f / name, lambda _: b"") for name in FILES},
    **{f"{name} missing": lambda f, name=name: (f / name).unlink() for name in FILES},
    **{f"{name} longer": lambda f, name=name: edit(f / name, lambda b: b + b" ") for name in FILES[:2]},
    "a digest not UTF-8": lambda f: edit(f / DIGESTS_FILE, lambda b: b"\xff" + b),
    "digests of others": lambda f: edit(f / DIGESTS_FILE, lambda b: b"0" * 64 + b[64:]),
    "arrays of another": lambda f: (f / ARRAYS_FILE).write_bytes(npz(**ARRAYS)),
    "folder missing": shutil.rmtree,
    "folder empty": lambda f: (shutil.rmtree(f), f.mkdir()),
    "a file": lambda f: (shutil.rmtree(f), f.write_text("file")),
}
# what one can write who may write all files; `None` in an archive stands for an object that needs a pickle
FORGERIES = {
    "description empty": lambda f: edit(f / METADATA_FILE, lambda _: b""),
    "description not UTF-8": lambda f: edit(f / METADATA_FILE, lambda b: b.replace(b"smoke", b"sm\xff\xfeke")),
    "description not JSON": lambda f: edit(f / METADATA_FILE, lambda _: b"<html>404</html>"),
    "description not an object": lambda f: edit(f / METADATA_FILE, lambda _: b"[1, 2]"),
    "key added": lambda f: edit_description(f, lambda d: d.update(extra=1)),
    "key missing": lambda f: edit_description(f, lambda d: d.pop("epoch")),
    "recipe key added": lambda f: edit_description(f, lambda d: d["configuration"]["recipe"].update(extra=1)),
    "recipe unusable": lambda f: edit_description(f, lambda d: d["configuration"]["recipe"].update(epochs=0)),
    "metric not a number": lambda f: edit_description(f, lambda d: d["records"][0]["metrics"].update(x=None)),
    "other epoch": lambda f: edit_description(f, lambda d: d.update(epoch=3)),
    "a record too few": lambda f: edit_description(f, lambda d: d["records"].pop()),
    "arrays empty": lambda f: edit(f / ARRAYS_FILE, lambda _: b""),
    "arrays not a zip": lambda f: edit(f / ARRAYS_FILE, lambda _: b"no zip" * 100),
    "arrays one array": lambda f: edit(f / ARRAYS_FILE, lambda _: npy(np.zeros(3))),
    "archive cut": lambda f: edit(f / ARRAYS_FILE, lambda b: b[:-30]),
    "archive encrypted": lambda f: edit(f / ARRAYS_FILE, lambda b: b.replace(b"PK\1\2-\3-\0\0", b"PK\1\2-\3-\0\1")),
    "archive of objects": lambda f: edit(f / ARRAYS_FILE, lambda _: npz(**ARRAYS, x=np.array([None]))),
    "no grids": lambda f: edit(f / ARRAYS_FILE, lambda _: npz(**ARRAYS)),
    "a grid too many": lambda f: edit(f / ARRAYS_FILE, lambda _: npz(**ARRAYS, **{GRIDS: np.zeros((3, 8, 8))})),
    "grids a number": lambda f: edit(f / ARRAYS_FILE, lambda _: npz(**ARRAYS, **{GRIDS: np.array(2)})),
}


def require_sentence(folder: Path) -> None:
    """Assert that loading raises a CheckpointError of one sentence that names the checkpoint."""
    with pytest.raises(CheckpointError) as found:
        load_checkpoint(folder)
    sentence = str(found.value)
    assert sentence.startswith(f"The checkpoint {folder} is ")
    assert sentence.endswith(".")
    assert "\n" not in sentence


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_found(saved, damage):
    """Whatever is damaged, the error says so and names the checkpoint."""
    damage(saved)
    require_sentence(saved)


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
def test_forgery_is_refused(saved, forgery):
    """What is no checkpoint although its digests fit is refused in the same way."""
    forgery(saved)
    forge(saved)
    require_sentence(saved)


@pytest.mark.parametrize("name", [ARRAYS_FILE, METADATA_FILE])
def test_any_flipped_bit_is_found(saved, name):
    """A single bit flipped anywhere in the arrays or in the description is found."""
    content = (saved / name).read_bytes()
    for position in np.linspace(0, 1, 100):
        (saved / name).write_bytes(flipped(content, position))
        require_sentence(saved)


def test_damage_is_reported_with_its_file(saved):
    """The sentence for a damaged file names it and the digest that it has."""
    edit(saved / METADATA_FILE, lambda content: flipped(content, 0.5))
    with pytest.raises(CheckpointError) as found:
        load_checkpoint(saved)
    digest = sha256_of_file(saved / METADATA_FILE)
    assert str(found.value) == (
        f"The checkpoint {saved} is damaged: checkpoint.json has the SHA-256 {digest}, "
        "not the one in checkpoint.sha256."
    )


def test_another_version_is_reported_with_its_field(saved):
    """The sentence for a description of another form names the field and what is wrong with it."""
    edit_description(saved, lambda d: d["configuration"]["recipe"].update(extra=1))
    forge(saved)
    with pytest.raises(CheckpointError) as found:
        load_checkpoint(saved)
    assert str(found.value) == (
        f"The checkpoint {saved} is not of this version: configuration.recipe.extra: Extra inputs are not permitted."
    )


def test_a_checkpoint_without_a_generator_is_of_another_version(saved):
    """Arrays that lack the generator to register are refused when they are read, not when it is registered."""
    np.savez(saved / ARRAYS_FILE, allow_pickle=False, **ARRAYS, **{GRIDS: np.zeros((2, 8, 8), np.uint8)})
    forge(saved)
    with pytest.raises(CheckpointError) as found:
        load_checkpoint(saved)
    assert str(found.value) == f"The checkpoint {saved} is not of this version: it has no generator to register."


def test_pickles_are_not_executed(saved, tmp_path):
    """Arrays of objects are refused without unpickling them, even where the digest is theirs."""
    mark = tmp_path / "executed"
    content = npz(**{GRIDS: np.array([Pwned(mark)], dtype=object)})
    np.load(io.BytesIO(content), allow_pickle=True)[GRIDS]
    assert mark.exists(), "the fault is real: unpickling these bytes writes the file"
    mark.unlink()
    replace_arrays(saved, content)
    with pytest.raises(CheckpointError, match="unreadable"):
        load_checkpoint(saved)
    assert not mark.exists()
