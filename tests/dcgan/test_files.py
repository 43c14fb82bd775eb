"""Files and folders that are whole or absent, also when several processes write them or one is killed."""

import hashlib
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from dcgan.files import TEMPORARY_PREFIX, atomic_file, atomic_folder, remove_leftovers, sha256_of_file

CHECKOUT = Path(__file__).resolve().parents[2]


def names(folder: Path) -> list[str]:
    """Return what lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def fail_in(writing: AbstractContextManager[Path]) -> None:
    """Write half of something, then raise."""
    with writing as temporary:
        (temporary / "half" if temporary.is_dir() else temporary).write_text("half")
        raise ZeroDivisionError


def test_sha256_is_that_of_the_bytes(tmp_path):
    """A file's digest is hashlib's of its bytes."""
    (tmp_path / "x").write_bytes(b"digits" * 100_000)
    assert sha256_of_file(tmp_path / "x") == hashlib.sha256(b"digits" * 100_000).hexdigest()


def test_a_file_appears_whole(tmp_path):
    """Until the block ends the old file is there, then the new one, and nothing else."""
    path = tmp_path / "deep" / "x.txt"
    for content, before in (("one", None), ("two", "one")):
        with atomic_file(path) as temporary:
            temporary.write_text(content)
            assert (path.read_text() if path.exists() else None) == before
        assert path.read_text() == content
    assert names(path.parent) == ["x.txt"]


def test_a_failure_leaves_the_old_file(tmp_path):
    """An exception while writing keeps what was there and removes what was begun."""
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        fail_in(atomic_file(path))
    assert (path.read_text(), names(tmp_path)) == ("old", ["x.txt"])


def test_a_folder_is_replaced_whole(tmp_path):
    """A new folder takes the old one's place with none of its files; a failure keeps the old one."""
    path = tmp_path / "x"
    for name in ("one", "two"):
        with atomic_folder(path) as temporary:
            (temporary / name).write_text(name)
        assert names(path) == [name]
    with pytest.raises(ZeroDivisionError):
        fail_in(atomic_folder(path))
    assert (names(path), names(tmp_path)) == (["two"], ["x"])


@pytest.mark.parametrize(("keep", "kept"), [(True, "first"), (False, "second")])
def test_two_writers_of_one_folder(keep, kept, tmp_path):
    """Of two that write at once both succeed: `keep` says whether the first or the last stays, never a mixture."""
    path = tmp_path / "x"
    with atomic_folder(path, keep=lambda: keep) as second:
        (second / "second").write_text("")
        with atomic_folder(path, keep=lambda: keep) as first:
            (first / "first").write_text("")
        assert names(path) == ["first"]
    assert (names(path), names(tmp_path)) == ([kept], ["x"])


WRITE_AND_DIE = """
import os, pathlib, signal, sys
from dcgan.files import atomic_folder
with atomic_folder(pathlib.Path(sys.argv[1])) as temporary:
    (temporary / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_only_the_leftovers_of_the_dead_are_removed(tmp_path):
    """What a killed process left is swept; what a living one is filling stays, and it finishes."""
    killed = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, str(tmp_path / "x")], cwd=CHECKOUT, check=False)
    (leftover,) = names(tmp_path)
    assert (killed.returncode, leftover.startswith(TEMPORARY_PREFIX)) == (-signal.SIGKILL, True)
    with atomic_folder(tmp_path / "y") as temporary:
        (temporary / "file").write_text("")
        remove_leftovers(tmp_path)
        assert names(tmp_path) == [temporary.name]
    assert (names(tmp_path), names(tmp_path / "y")) == (["y"], ["file"])
