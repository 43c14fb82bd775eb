"""Checkpoints: they come back as they were, or a CheckpointError says which one is damaged and how."""

import hashlib
import io
import json
import logging
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dcgan.checkpoint import Checkpoint, EpochRecord
from dcgan.checkpoint_files import (
    ARRAYS_FILE,
    DESCRIPTION_FILE,
    DIGESTS_FILE,
    GRIDS,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from dcgan.errors import CheckpointError
from dcgan.files import TEMPORARY_PREFIX, sha256_of_file
from dcgan.gan import Gan
from dcgan.networks import build_discriminator
from dcgan.provenance import Configuration, environment
from dcgan.recipe import SMOKE
from dcgan.showcase import Showcase

RECIPE = SMOKE.model_copy(update={"average_half_life_images": None})  # shows the generator that is trained
CONFIGURATION = Configuration(recipe=SMOKE, seed=1, dataset_digest="d" * 64)
ARRAYS = {
    "generator/project/kernel": np.linspace(-1, 1, 60, dtype=np.float32).reshape(3, 20),
    "discriminator/logit/bias": np.array([np.float32(np.pi)]),
    "generator_adam/iteration": np.array(2**40 + 1),
    "generator_adam/empty": np.zeros((0, 3), np.float32),
}


class Pwned:
    """An object whose unpickling writes the file `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.path), "w")


def checkpoint_after(epoch: int, configuration: Configuration = CONFIGURATION) -> Checkpoint:
    """Return a small checkpoint whose history tells its epochs apart."""
    grids = np.random.default_rng(epoch).integers(0, 256, (epoch, 8, 8)).astype(np.uint8)
    records = [
        EpochRecord(epoch=e, step=8 * e, finished_at=1.7e9 + e / 3, metrics={"generator_loss": 1 / 3 / e, "x": 1e-300})
        for e in range(1, epoch + 1)
    ]
    return Checkpoint.make(configuration, ARRAYS, zip(records, grids, strict=True))


def save_states(folder: Path, *epochs: int) -> list[Path]:
    """Save checkpoints of epochs and return their folders, newest first."""
    for epoch in epochs:
        save_checkpoint(folder / f"epoch-{epoch}", checkpoint_after(epoch))
    return [folder / f"epoch-{epoch}" for epoch in sorted(epochs, reverse=True)]


@pytest.fixture
def saved(tmp_path) -> Path:
    """Return the folder of a checkpoint after two epochs."""
    return save_states(tmp_path, 2)[0]


def edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def edit_description(folder: Path, change: Callable[[dict], object]) -> None:
    """Change the parsed JSON of a checkpoint in place."""
    content = json.loads((folder / DESCRIPTION_FILE).read_text())
    change(content)
    (folder / DESCRIPTION_FILE).write_text(json.dumps(content))


def forge(folder: Path) -> None:
    """Make the digests fit, as one can who may write all files."""
    lines = [f"{sha256_of_file(folder / name)}  {name}\n" for name in (ARRAYS_FILE, DESCRIPTION_FILE)]
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


def flipped(content: bytes, position: float) -> bytes:
    """Return bytes with one bit flipped, at a position from 0 (first) to 1 (last)."""
    index = round(position * (len(content) - 1))
    return content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :]


def test_round_trip(saved):
    """Everything comes back with its bits, dtype, shape and order."""
    expected, found = checkpoint_after(2), load_checkpoint(saved)
    assert list(found.arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert (found.arrays[name].dtype, found.arrays[name].shape) == (array.dtype, array.shape)
        assert found.arrays[name].tobytes() == array.tobytes()
    np.testing.assert_array_equal(found.grids, expected.grids)
    assert found.grids.dtype == np.uint8
    assert found.description == expected.description
    assert (found.epoch, found.description.step, found.weights_sha256()) == (2, 16, expected.weights_sha256())


def test_made_by_this_code_here(saved):
    """A checkpoint says what made it, so going on from it here promises the same bits and warns of nothing."""
    found = load_checkpoint(saved)
    assert (found.description.configuration, found.description.environment) == (CONFIGURATION, environment())
    assert found.warn_if_inexact() == []


def test_files_are_plain(saved):
    """A checkpoint is JSON, a zip of .npy files without one pickle, and the SHA-256 of both as sha256sum writes it."""
    assert sorted(file.name for file in saved.iterdir()) == [ARRAYS_FILE, DESCRIPTION_FILE, DIGESTS_FILE]
    digests = [line.split("  ") for line in (saved / DIGESTS_FILE).read_text().splitlines()]
    assert [name for _, name in digests] == [ARRAYS_FILE, DESCRIPTION_FILE]
    for digest, name in digests:
        assert digest == hashlib.sha256((saved / name).read_bytes()).hexdigest()
    assert json.loads((saved / DESCRIPTION_FILE).read_text())["epoch"] == 2
    with zipfile.ZipFile(saved / ARRAYS_FILE) as archive:
        assert archive.namelist() == [f"{name}.npy" for name in (*ARRAYS, GRIDS)]
        assert all(np.load(io.BytesIO(archive.read(name)), allow_pickle=False).size >= 0 for name in archive.namelist())


FILES = (ARRAYS_FILE, DESCRIPTION_FILE, DIGESTS_FILE)
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
    "description empty": lambda f: edit(f / DESCRIPTION_FILE, lambda _: b""),
    "description not UTF-8": lambda f: edit(f / DESCRIPTION_FILE, lambda b: b.replace(b"smoke", b"sm\xff\xfeke")),
    "description not JSON": lambda f: edit(f / DESCRIPTION_FILE, lambda _: b"<html>404</html>"),
    "description not an object": lambda f: edit(f / DESCRIPTION_FILE, lambda _: b"[1, 2]"),
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


@pytest.mark.parametrize("name", [ARRAYS_FILE, DESCRIPTION_FILE])
def test_any_flipped_bit_is_found(saved, name):
    """A single bit flipped anywhere in the arrays or in the description is found."""
    content = (saved / name).read_bytes()
    for position in np.linspace(0, 1, 100):
        (saved / name).write_bytes(flipped(content, position))
        require_sentence(saved)


def test_damage_is_told_with_its_file(saved):
    """The sentence for a damaged file names it and the digest that it has."""
    edit(saved / DESCRIPTION_FILE, lambda content: flipped(content, 0.5))
    with pytest.raises(CheckpointError) as found:
        load_checkpoint(saved)
    digest = sha256_of_file(saved / DESCRIPTION_FILE)
    assert str(found.value) == (
        f"The checkpoint {saved} is damaged: checkpoint.json has the SHA-256 {digest}, "
        "not the one in checkpoint.sha256."
    )


def test_other_version_is_told_with_its_field(saved):
    """The sentence for a description of another form names the field and what is wrong with it."""
    edit_description(saved, lambda d: d["configuration"]["recipe"].update(extra=1))
    forge(saved)
    with pytest.raises(CheckpointError) as found:
        load_checkpoint(saved)
    assert str(found.value) == (
        f"The checkpoint {saved} is not of this version: configuration.recipe.extra: Extra inputs are not permitted."
    )


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


def test_objects_are_not_written(tmp_path):
    """An array that would need a pickle is not saved, and nothing is left of the attempt."""
    checkpoint = Checkpoint(checkpoint_after(1).description, {"x": np.array([{}], dtype=object)}, np.zeros((1, 2, 2)))
    with pytest.raises(ValueError, match="allow_pickle"):
        save_checkpoint(tmp_path / "epoch-1", checkpoint)
    assert list(tmp_path.iterdir()) == []


def test_saving_again_replaces(tmp_path):
    """A checkpoint saved where a damaged one lies takes its place, whole."""
    (path,) = save_states(tmp_path, 1)
    (path / ARRAYS_FILE).unlink()
    (path / "other").write_text("foreign")
    save_states(tmp_path, 1)
    assert load_checkpoint(path).epoch == 1
    assert sorted(file.name for file in path.iterdir()) == list(FILES)


def test_failed_saving_keeps_the_old_one(saved):
    """A write that fails half-way leaves the checkpoint that was there, and no other file."""
    broken = Checkpoint(checkpoint_after(2).description, {**ARRAYS, "x": np.array([{}], dtype=object)}, np.zeros(1))
    with pytest.raises(ValueError, match="allow_pickle"):
        save_checkpoint(saved, broken)
    assert load_checkpoint(saved).epoch == 2
    assert list(saved.parent.glob(f"{TEMPORARY_PREFIX}*")) == []


def test_newest_is_used(tmp_path, log):
    """Of whole checkpoints the first is used, and nothing is said; of none there is none."""
    newest = newest_checkpoint(save_states(tmp_path, 1, 2, 3), CONFIGURATION)
    assert newest is not None
    assert newest.epoch == 3
    assert newest_checkpoint([], CONFIGURATION) is None
    assert log.records == []


def test_damaged_ones_are_passed_over(tmp_path, log):
    """Damaged checkpoints are passed over, each with a warning that names it, down to one that is whole."""
    states = save_states(tmp_path, 1, 2, 3)
    edit(states[0] / ARRAYS_FILE, lambda content: flipped(content, 0.5))
    (states[1] / DESCRIPTION_FILE).unlink()
    newest = newest_checkpoint(states, CONFIGURATION)
    assert newest is not None
    assert newest.epoch == 1
    assert [record.levelno for record in log.records] == [logging.WARNING] * 2
    for path, message in zip(states, log.messages, strict=False):
        assert message.startswith(f"The checkpoint {path} is ")


def test_all_damaged_means_none(tmp_path, log):
    """Where no checkpoint is whole there is none to go on from, and each was warned of."""
    states = save_states(tmp_path, 1, 2)
    for state in states:
        (state / ARRAYS_FILE).unlink()
    assert newest_checkpoint(states, CONFIGURATION) is None
    assert len(log.records) == 2


def test_another_configuration_is_refused(saved):
    """The sentence names every field that differs, with the checkpoint's value and the one that is wanted here."""
    wanted = Configuration(
        recipe=SMOKE.model_copy(update={"epochs": 9, "beta_1": 0.25}),
        seed=5,
        dataset_digest=CONFIGURATION.dataset_digest,
    )
    with pytest.raises(CheckpointError) as refused:
        newest_checkpoint([saved], wanted)
    assert str(refused.value) == (
        f"The checkpoint {saved} belongs to another configuration: "
        f"epochs ({SMOKE.epochs}, here 9), beta_1 ({SMOKE.beta_1}, here 0.25), seed (1, here 5)."
    )


def test_older_ones_are_not_asked(tmp_path):
    """Only the checkpoint that is used must be of the configuration; what lies behind it does not matter."""
    other = CONFIGURATION.model_copy(update={"seed": 2})
    save_checkpoint(tmp_path / "epoch-1", checkpoint_after(1, other))
    (newest,) = save_states(tmp_path, 2)
    found = newest_checkpoint([newest, tmp_path / "epoch-1"], CONFIGURATION)
    assert found is not None
    assert found.epoch == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"environment": {**environment(), "keras": "2.0"}}, f"keras was 2.0, is {environment()['keras']}"),
        ({"environment": {**environment(), "processor": "Z80"}}, f"processor was Z80, is {environment()['processor']}"),
        ({"environment": {}}, f"tensorflow was None, is {environment()['tensorflow']}"),
        ({"code_digest": "0" * 64}, "the library's code has changed"),
    ],
)
def test_inexactness_is_told(saved, log, changes, reason):
    """A checkpoint of other packages, another processor or other code is used, with a warning that says why."""
    loaded = load_checkpoint(saved)
    elsewhere = Checkpoint(loaded.description.model_copy(update=changes), loaded.arrays, loaded.grids)
    reasons = elsewhere.warn_if_inexact()
    assert reasons[0] == reason
    assert [(r.levelno, r.getMessage()) for r in log.records] == [
        (logging.WARNING, f"Going on from epoch 2 is not exact: {'; '.join(reasons)}.")
    ]


def test_every_reason_is_told(log):
    """Several reasons stand in one warning."""
    here = checkpoint_after(1)
    changes = {"environment": {**environment(), "numpy": "1", "python": "2"}, "code_digest": "0"}
    reasons = Checkpoint(here.description.model_copy(update=changes), {}, here.grids).warn_if_inexact()
    assert [reason.split()[0] for reason in reasons] == ["numpy", "python", "the"]
    assert all(reason in log.messages[0] for reason in reasons)


def test_weights_sha256_is_of_the_layers_weights():
    """The digest is that of the raw float32 of all weights, layer after layer, generator first, statistics included."""
    state = Gan(RECIPE, 3, np.zeros((64, 28, 28, 1), np.float32)).state()
    discriminator = build_discriminator(99, hidden_units=RECIPE.hidden_units)
    for variable in discriminator.weights:
        variable.assign(state[variable.path if variable.path in state else f"discriminator/{variable.path}"])
    layers = [*Showcase(RECIPE, 3).generator(state).layers, *discriminator.layers]
    raw = [weight.astype("<f4").tobytes() for layer in layers for weight in layer.get_weights()]
    assert sum(map(len, raw)) == 4 * (2_330_944 + 1_812_737)
    checkpoint = Checkpoint(checkpoint_after(1).description, state, np.zeros((1, 2, 2), np.uint8))
    assert checkpoint.weights_sha256() == hashlib.sha256(b"".join(raw)).hexdigest()


def test_weights_sha256_is_of_the_weights_alone():
    """One other bit in a weight changes the digest; an optimizer's moments do not."""
    here = checkpoint_after(1)
    digests = {here.weights_sha256()}
    for name, array in ARRAYS.items():
        arrays = {**ARRAYS, name: array + array.dtype.type(1)}
        digests.add(Checkpoint(here.description, arrays, here.grids).weights_sha256())
    assert len(digests) == 3
