"""Files and folders that are whole or absent, whatever happens while they are written."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dcgan
from dcgan.errors import ConfigurationError
from dcgan.files import (
    LOCK_NAME,
    TEMPORARY_PREFIX,
    atomic_file,
    atomic_folder,
    remove_leftovers,
    require_writable,
    sha256_of_file,
)

CHECKOUT = Path(dcgan.__file__).parent.parent

# fills a folder, says where, and waits to be killed
FILL_AND_WAIT = """
import pathlib, sys
from dcgan.files import atomic_folder
with atomic_folder(pathlib.Path(sys.argv[1])) as folder:
    (folder / "half").write_text("half")
    print(folder, flush=True)
    sys.stdin.read()
"""

# replaces a folder again and again; both files of a version hold the same word
REPLACE_OFTEN = """
import pathlib, sys
from dcgan.files import atomic_folder
for version in range(50):
    with atomic_folder(pathlib.Path(sys.argv[1])) as folder:
        for name in ("first", "second"):
            (folder / name).write_text(f"{sys.argv[2]} {version}")
"""


def start(script: str, *arguments: object) -> subprocess.Popen:
    """Start a Python process with this library on its path."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def fail_within(file: Path) -> None:
    """Write half a file and fail."""
    file.write_text("half")
    raise ZeroDivisionError


def tree(folder: Path) -> dict[str, str]:
    """Return the text of every file below a folder, by its relative path."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@given(content=st.binary(max_size=1000))
@settings(max_examples=30, deadline=None)
def test_digest_is_the_files(content, tmp_path_factory):
    """The digest of a file is that of its bytes, whatever they are."""
    path = tmp_path_factory.mktemp("digest") / "file"
    path.write_bytes(content)
    assert sha256_of_file(path) == hashlib.sha256(content).hexdigest()


def test_digest_of_the_standards_example(tmp_path):
    """The digest is hexadecimal SHA-256, FIPS 180-4: its example is "abc"."""
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_file_appears_at_the_end(tmp_path):
    """The old content is there until the new one is whole, in a folder that is made; nothing else remains."""
    path = tmp_path / "made" / "file.json"
    for content, before in (("old", None), ("new", "old")):
        with atomic_file(path) as temporary:
            temporary.write_text(content)
            assert (path.read_text() if path.exists() else None) == before
            assert (temporary.parent, temporary.suffix) == (path.parent, ".json")
    assert tree(tmp_path) == {"made/file.json": "new"}


@pytest.fixture
def synced(monkeypatch) -> list[int]:
    """Return the inodes of what is synced, in order."""
    fsync, calls = os.fsync, []

    def recorded(handle):
        calls.append(os.fstat(handle).st_ino)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", recorded)
    return calls


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path, synced):
    """Its content is synced before it is renamed, and the folder afterwards: a power failure leaves no half file."""
    path = tmp_path / "file"
    with atomic_file(path) as file:
        file.write_text("whole")
        assert synced == []
    assert synced == [path.stat().st_ino, tmp_path.stat().st_ino]


def test_a_folder_is_on_disk_before_it_has_its_name(tmp_path, synced):
    """So it is with each file of a folder, and with its list of them."""
    path = tmp_path / "folder"
    with atomic_folder(path) as folder:
        (folder / "a").write_text("a")
        (folder / "b").write_text("b")
    *files, listed, parent = synced
    assert sorted(files) == sorted((path / name).stat().st_ino for name in "ab")
    assert (listed, parent) == (path.stat().st_ino, tmp_path.stat().st_ino)


def test_failed_file_leaves_the_old_one(tmp_path):
    """An exception while a file is written passes through and changes nothing."""
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as temporary:
        fail_within(temporary)
    assert tree(tmp_path) == {"file": "old"}


def test_folder_appears_at_the_end(tmp_path):
    """A folder with folders in it replaces the old one only when it is whole; nothing of the old one remains."""
    path = tmp_path / "made" / "folder"
    for name, before in (("old", False), ("new", True)):
        with atomic_folder(path) as temporary:
            (temporary / "inner").mkdir()
            (temporary / "inner" / name).write_text(name)
            assert (path / "inner" / "old").exists() == before
            assert temporary.parent == path.parent
    assert tree(tmp_path) == {"made/folder/inner/new": "new"}
    assert [entry.name for entry in path.parent.iterdir()] == ["folder"]


@pytest.mark.parametrize("existed", [False, True])
def test_failed_folder_leaves_the_old_one(tmp_path, existed):
    """An exception while a folder is filled passes through, and the old folder, or none, stays."""
    path = tmp_path / "folder"
    if existed:
        path.mkdir()
        (path / "file").write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_folder(path) as temporary:
        fail_within(temporary / "file")
    assert tree(tmp_path) == ({"folder/file": "old"} if existed else {})
    assert list(tmp_path.glob(f"{TEMPORARY_PREFIX}*")) == []


@pytest.mark.parametrize(("keep", "expected"), [(True, "theirs"), (False, "ours")])
def test_keep_decides_between_two_writers(tmp_path, keep, expected):
    """A folder that another has made meanwhile stays or is replaced, as `keep` says."""
    path = tmp_path / "folder"
    with atomic_folder(path, keep=lambda: keep) as temporary:
        (temporary / "file").write_text("ours")
        path.mkdir()
        (path / "file").write_text("theirs")
    assert {name: text for name, text in tree(tmp_path).items() if name != LOCK_NAME} == {"folder/file": expected}


def test_others_may_read(tmp_path):
    """Files and folders get the permissions that the process's umask leaves, not those of a private temporary file."""
    before = os.umask(0o022)
    try:
        with atomic_file(tmp_path / "file") as temporary:
            temporary.write_text("text")
        with atomic_folder(tmp_path / "folder") as folder:
            (folder / "file").write_text("text")
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("file", "folder")] == [0o644, 0o755]


def test_leftovers_of_the_dead_are_removed(tmp_path):
    """What a process is filling stays while it lives; what it leaves when it is killed goes, and only that."""
    (tmp_path / "other").mkdir()
    with start(FILL_AND_WAIT, tmp_path / "folder") as process:
        try:
            leftover = Path(process.stdout.readline().strip())
            remove_leftovers(tmp_path)
            assert tree(tmp_path) == {f"{leftover.name}/half": "half", f"{leftover.name}{LOCK_NAME}": ""}
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    assert leftover.exists()
    assert not (tmp_path / "folder").exists()
    remove_leftovers(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["other"]


def test_two_processes_replace_one_folder(tmp_path):
    """Two processes that replace the same folder at once both succeed, and it holds one version of one of them."""
    folder = tmp_path / "folder"
    with start(REPLACE_OFTEN, folder, "a") as one, start(REPLACE_OFTEN, folder, "b") as other:
        assert [process.wait() for process in (one, other)] == [0, 0]
    found = tree(tmp_path)
    assert found.keys() == {"folder/first", "folder/second"}
    assert len(set(found.values())) == 1
    assert found["folder/first"] in {"a 49", "b 49"}


def test_the_file_behind_a_link_is_replaced(tmp_path):
    """A symbolic link stays one."""
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "file", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    require_writable(link)
    with atomic_file(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert tree(tmp_path) == {"folder/file": "new", "link": "new"}


def test_what_is_no_file_is_not_replaced(tmp_path):
    """A pipe or a device, as /dev/stdout, would be gone afterwards."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match=r"pipe: cannot be written: it is not a regular file; expected"):
        require_writable(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()
