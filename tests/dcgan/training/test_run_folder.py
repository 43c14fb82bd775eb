"""A run's folder: one process at a time locks it, and wherever that one is killed, a complete state remains."""

import errno
import os
import resource
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import dcgan
from dcgan.errors import CheckpointError, ConfigurationError
from dcgan.files import TEMPORARY_PREFIX
from dcgan.provenance import Configuration
from dcgan.recipe import SMOKE
from dcgan.training.checkpoint import Checkpoint, EpochRecord, load_checkpoint, newest_checkpoint
from dcgan.training.run_folder import RETAINED_STATES, RunFolder

CHECKOUT = Path(dcgan.__file__).parent.parent
CONFIGURATION = Configuration(recipe=SMOKE, seed=1, dataset_digest="d" * 64)

# holds a run's folder until its standard input ends
HOLD = """
import pathlib, sys
from dcgan.training.run_folder import RunFolder
with RunFolder(pathlib.Path(sys.argv[1])).lock():
    print("locked", flush=True)
    sys.stdin.read()
"""

# In a fork for each moment: begins with two states, the newer one retained, then saves and keeps a third, and is killed
# by SIGKILL just before its n-th use of the file system. Prints where, until a fork comes to its end.
KILL_EVERYWHERE = """
import itertools, os, pathlib, signal, sys
sys.path.insert(0, sys.argv[2])
import numpy as np
from dcgan.training.checkpoint import Checkpoint, EpochRecord
from dcgan.provenance import Configuration
from dcgan.recipe import SMOKE
from dcgan.training.run_folder import RunFolder

EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.scandir", "fcntl.flock"}
records = [EpochRecord(epoch=e, step=e, finished_at=0, metrics={}) for e in (1, 2, 3)]
grids = np.zeros((3, 4, 4), np.uint8)
configuration = Configuration(recipe=SMOKE, seed=1, dataset_digest="d" * 64)

def after(epoch):
    history = list(zip(records, grids))[:epoch]
    return Checkpoint.make(configuration, {"x": np.full(1000, epoch)}, history, {"x": np.zeros(1)})

def kill_at(moment):
    count = itertools.count(1)
    def hook(event, arguments):
        if event in EVENTS and next(count) == moment:
            print(path.name, event, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

for moment in itertools.count(1):
    path = pathlib.Path(sys.argv[1]) / f"{moment:03d}"
    folder = RunFolder(path)
    folder.save(after(1))
    folder.save(after(2))
    folder.retain(2)
    child = os.fork()
    if not child:
        with folder.lock():
            checkpoint = after(3)
            kill_at(moment)
            folder.save(checkpoint)
            folder.retain(3)
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
        break
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
"""


def checkpoint_after(epoch: int) -> Checkpoint:
    records = [EpochRecord(epoch=e, step=8 * e, finished_at=0, metrics={}) for e in range(1, epoch + 1)]
    history = zip(records, np.zeros((epoch, 4, 4), np.uint8), strict=True)
    return Checkpoint.make(CONFIGURATION, {"generator/x": np.full(3, epoch, np.float32)}, history, {"x": np.zeros(1)})


def names(folders: list[Path]) -> list[str]:
    return [folder.name for folder in folders]


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    """Return the folder of a run that has not begun."""
    return RunFolder(tmp_path / "runs" / "4711")


def test_lock_excludes_another_process_until_it_is_killed(folder):
    """While another process holds a run this one gets a sentence; when it is killed the run is free at once."""
    command = [sys.executable, "-c", HOLD, str(folder.path)]
    other = subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(ConfigurationError) as refused, folder.lock():
            pass
        assert str(refused.value) == "The run 4711 is in use by another live process."
    finally:
        other.kill()
    assert other.wait() == -signal.SIGKILL
    with folder.lock():
        assert folder.path.is_dir()


def test_lock_is_waited_for(folder):
    """With a timeout a run that another process has locked is locked as soon as that one releases it."""
    command = [sys.executable, "-c", HOLD, str(folder.path)]
    other = subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "locked\n"

    def hold() -> list[Path]:
        with folder.lock(timeout_seconds=60):
            return list(folder.path.iterdir())

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(hold)
        other.communicate()
        assert waiting.result() == [folder.path / "lock"]


def test_lock_is_released_at_the_end(folder):
    """A run is free after it was locked, also when that ended in an exception; it cannot be locked twice at once."""
    with pytest.raises(ZeroDivisionError), folder.lock():
        raise ZeroDivisionError
    with folder.lock(), pytest.raises(ConfigurationError), RunFolder(folder.path).lock():
        pass
    with folder.lock():
        pass


def test_runs_do_not_exclude_each_other(folder):
    """Two runs may be locked at once."""
    with folder.lock(), RunFolder(folder.path.with_name("4712")).lock():
        pass


def test_only_the_last_states_remain(folder):
    """After every epoch the newest states are there, newest first, and no older ones."""
    assert RETAINED_STATES == 2
    expected = []
    for epoch in (1, 2, 3, 4, 12, 103):
        folder.save(checkpoint_after(epoch))
        expected = [f"epoch-{epoch:06d}", *expected][:2]
        assert names(folder.states()) == expected
    newest = newest_checkpoint(folder.states(), CONFIGURATION)
    assert newest is not None
    assert newest.epoch == 103


def test_states_that_could_not_be_used_go_first(folder):
    """Resumed from an older checkpoint, a run keeps what it saves now instead of later states that are damaged."""
    for epoch in (6, 7, 5):
        folder.save(checkpoint_after(epoch))
    assert names(folder.states()) == ["epoch-000005"]
    folder.retain(5)
    folder.save(checkpoint_after(6))
    assert names(folder.states()) == ["epoch-000006", "epoch-000005"]


def test_new_run_has_nothing(folder):
    """A folder that does not exist has no states, no checkpoints, and looking makes nothing."""
    assert (folder.states(), folder.retained(), folder.path.exists()) == ([], [], False)
    assert folder.report.parent == folder.path


def test_kept_checkpoints_share_their_files(folder):
    """A retained checkpoint is the state's own files, not a copy, and outlives the state."""
    folder.save(checkpoint_after(1))
    folder.retain(1)
    (state,), (retained,) = folder.states(), folder.retained()
    assert sorted(names(retained.iterdir())) == sorted(names(state.iterdir()))
    assert all((retained / file.name).samefile(file) for file in state.iterdir())
    for epoch in (2, 3):
        folder.save(checkpoint_after(epoch))
    assert not state.exists()
    assert load_checkpoint(retained).arrays["generator/x"].tolist() == [1, 1, 1]


def test_checkpoints_are_kept_oldest_first(folder):
    """Retained checkpoints come in the order in which they are to be uploaded; keeping one again changes nothing."""
    for epoch in (9, 10, 11):
        folder.save(checkpoint_after(epoch))
        folder.retain(epoch)
        folder.retain(epoch)
    assert names(folder.retained()) == ["epoch-000009", "epoch-000010", "epoch-000011"]
    assert [load_checkpoint(path).epoch for path in folder.retained()] == [9, 10, 11]


def test_kept_checkpoint_is_not_changed_by_a_later_save(folder):
    """Saving an epoch's state anew makes new files: the retained checkpoint stays what it was."""
    folder.save(checkpoint_after(1))
    folder.retain(1)
    before = load_checkpoint(folder.retained()[0]).arrays["generator/x"].tolist()
    changed = checkpoint_after(1)
    changed.arrays["generator/x"] += 1
    folder.save(changed)
    assert load_checkpoint(folder.retained()[0]).arrays["generator/x"].tolist() == before
    assert load_checkpoint(folder.states()[0]).arrays["generator/x"].tolist() != before


def test_leftovers_are_removed(folder):
    """Whoever holds the run removes half-written files and folders, wherever they lie in it, and nothing else."""
    folder.save(checkpoint_after(1))
    folder.retain(1)
    folder.report.mkdir()
    (folder.report / "training.gif").write_bytes(b"GIF")
    (folder.report / f"{TEMPORARY_PREFIX}1.gif").write_bytes(b"half")
    half = folder.path / "states" / f"{TEMPORARY_PREFIX}2"
    (half / "inner").mkdir(parents=True)
    (half / "inner" / "arrays.npz").write_bytes(b"half")
    before = {path for path in folder.path.rglob("*") if TEMPORARY_PREFIX not in str(path)}
    with folder.lock():
        assert set(folder.path.rglob("*")) == before | {folder.path / "lock"}


def test_states_of_a_locked_run_are_not_removed_by_another(folder):
    """Who is refused the run touches nothing in it: what its holder is writing stays."""
    with folder.lock():
        half = folder.path / f"{TEMPORARY_PREFIX}1"
        half.mkdir()
        with pytest.raises(ConfigurationError), RunFolder(folder.path).lock():
            pass
        assert half.exists()


def test_full_disk_leaves_the_state_before(folder):
    """A state that cannot be written is a sentence, leaves nothing half written, and the one before it whole."""
    folder.save(checkpoint_after(1))
    larger = checkpoint_after(2)
    larger.arrays["generator/x"] = np.zeros(100_000, np.float32)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(CheckpointError) as full:
            folder.save(larger)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    path = folder.path / "states" / "epoch-000002"
    expected = f"The checkpoint {path} cannot be written: {os.strerror(errno.EFBIG)}; earlier checkpoints are intact."
    assert str(full.value) == expected
    assert [load_checkpoint(state).epoch for state in folder.states()] == [1]
    assert list(folder.path.rglob(f"{TEMPORARY_PREFIX}*")) == []


def test_killed_anywhere_a_whole_state_remains(tmp_path):
    """SIGKILL before any single use of the file system leaves the old state or the new one, both readable, no litter.

    Every state and retained checkpoint that is listed afterwards is read; a third, older state that was being removed
    may be incomplete, but is not among the last two.
    """
    command = [sys.executable, "-c", KILL_EVERYWHERE, str(tmp_path), str(CHECKOUT)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    moments = [line.split() for line in answer.stdout.splitlines()]
    assert {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link"} <= {event for _, event in moments}
    newest = []
    for moment, _ in moments:
        folder = RunFolder(tmp_path / moment)
        with folder.lock():
            assert list(folder.path.rglob(f"{TEMPORARY_PREFIX}*")) == []
            newest.append([load_checkpoint(path).epoch for path in folder.states()[:RETAINED_STATES]])
            retained = [load_checkpoint(path).epoch for path in folder.retained()]
            assert retained in ([2], [2, 3])
    assert sorted(newest) == newest, "once the new state is there it stays"
    assert {tuple(epochs) for epochs in newest} == {(2, 1), (3, 2)}


def test_without_hard_links_a_checkpoint_is_copied(folder, monkeypatch):
    """Not every file system has them."""

    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    folder.save(checkpoint_after(1))
    folder.retain(1)
    (retained,) = folder.retained()
    assert load_checkpoint(retained).epoch == 1
