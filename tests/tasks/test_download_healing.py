"""Damaged copies, full disks, killed and simultaneous downloads: what is there in the end is whole, or nothing."""

import errno
import gzip
import hashlib
import json
import os
import resource
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dcgan.data.idx import read_idx_folder
from dcgan.errors import DataError
from tasks.download import RECORD_NAME, obtain
from tests.downloads import left_behind, warnings
from tests.faults.web import FIRST, NAMES


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def edit_record(path: Path, text: str) -> None:
    """Change the name of a file in a record."""
    path.write_text(path.read_text().replace(f'"{FIRST}"', json.dumps(text)))


def swap_champion(path: Path) -> None:
    """Put a whole file of other images in the place of one."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[100] ^= 1
    path.write_bytes(gzip.compress(content))


def cut(path: Path) -> None:
    """Cut the end of a file off."""
    path.write_bytes(path.read_bytes()[:-9])


def empty(path: Path) -> None:
    """Leave nothing in a file."""
    path.write_bytes(b"")


NO_RECORD = f"{RECORD_NAME}: is not the record of a download."
DAMAGE = {
    "flipped byte": (FIRST, flip, f"{FIRST}: "),
    "truncated": (FIRST, cut, f"{FIRST}: byte "),
    "emptied": (FIRST, empty, f"{FIRST}: byte 0: the file is empty;"),
    "removed": (FIRST, Path.unlink, f"{FIRST[:-3]}: does not exist, with or without .gz."),
    "exchanged": (FIRST, swap_champion, f"{FIRST}: has the SHA-256 "),
    "no record": (RECORD_NAME, Path.unlink, f"{RECORD_NAME}: cannot be read: No such file or directory."),
    "record cut": (RECORD_NAME, cut, NO_RECORD),
    "record emptied": (RECORD_NAME, empty, NO_RECORD),
    "record not an object": (RECORD_NAME, lambda path: path.write_bytes(b"[]"), NO_RECORD),
    "record not text": (RECORD_NAME, lambda path: path.write_bytes(b"\xff\xfe"), NO_RECORD),
    "record that leads elsewhere": (RECORD_NAME, lambda path: edit_record(path, f"../../{FIRST}"), NO_RECORD),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_download_is_named_and_fetched_again(kind, web, small_folder, downloads, log):
    """Damage to an earlier download is found before use, said in one warning, and repaired from the source."""
    source = web.serve("/x", small_folder)
    first = obtain(source, downloads)
    name, damage, sentence = DAMAGE[kind]
    damage(first.folder / name)
    assert obtain(source, downloads) == first
    assert read_idx_folder(first.folder, source) == first
    assert len(web.asked) == 8
    (line,) = warnings(log)
    assert line.startswith(f"The earlier download is damaged and is fetched again: {first.folder}/{sentence}")
    assert left_behind(downloads) == [first.folder.name]


def test_a_damaged_bundled_copy_is_named(web, mnist_folder, downloads, tmp_path, monkeypatch):
    """Nothing lies behind the bundled copy, so its damage ends the download with the file's name."""
    damaged = shutil.copytree(mnist_folder, tmp_path / "mnist")
    (damaged / NAMES[3]).write_bytes(b"")
    monkeypatch.setattr("tasks.sources.BUNDLED", damaged)
    with pytest.raises(DataError) as caught:
        obtain("bundled", downloads)
    assert str(caught.value).startswith(f"{damaged}/{NAMES[3]}: byte 0: the file is empty; expected 0x00000801")
    assert left_behind(downloads) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    """A file in the place of the state folder gives one sentence."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError) as caught:
        obtain("bundled", tmp_path / "file" / "downloads")
    assert str(caught.value) == f"{tmp_path}/file/downloads/bundled: cannot be written: Not a directory."


@pytest.fixture
def small_disk():
    """Let no file of this process grow beyond 50,000 bytes during a test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_named_and_leaves_nothing(web, small_folder, downloads, small_disk):
    """Writing that fails in the middle of a file stops with a sentence; no half file stays."""
    source = web.serve("/x", small_folder)
    with pytest.raises(DataError) as caught:
        obtain(source, downloads)
    folder = hashlib.sha256(source.encode()).hexdigest()[:16]
    assert str(caught.value) == f"{downloads}/{folder}: cannot be written: {os.strerror(errno.EFBIG)}."
    assert left_behind(downloads) == []


def test_downloads_of_the_same_data_at_once_all_succeed(web, small_folder, downloads):
    """Four downloads into one folder agree on one whole set and leave nothing else."""
    source = web.serve("/x", small_folder)
    together = threading.Barrier(4)
    good = (small_folder / NAMES[3]).read_bytes()

    def answer_all_at_once(connection: socket.socket) -> None:
        together.wait(30)
        web.respond(good)(connection)

    web.answer(f"/x/{NAMES[3]}", answer_all_at_once)
    with ThreadPoolExecutor(4) as pool:
        sets = list(pool.map(obtain, [source] * 4, [downloads] * 4))
    assert len(web.asked) == 16
    assert sets == [obtain(source, downloads)] * 4
    assert left_behind(downloads) == [sets[0].folder.name]


def test_what_a_killed_download_left_is_removed(web, small_folder, downloads):
    """A temporary folder that no process holds is gone after the next download."""
    (downloads / ".partial-0123").mkdir(parents=True)
    (downloads / ".partial-0123" / FIRST).write_bytes(b"half")
    idx = obtain(web.serve("/x", small_folder), downloads)
    assert left_behind(downloads) == [idx.folder.name]
