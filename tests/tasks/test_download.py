"""The download: every source, every way in which a server misbehaves, reuse, healing and secrecy."""

import errno
import gzip
import hashlib
import json
import logging
import os
import resource
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import _registry as drivers
from prefect.states import Failed

from dcgan.errors import ConfigurationError, DataError
from dcgan.idx_set import IdxSet, read_idx_folder
from dcgan.mnist import FILES, TRAIN
from tasks.download import download, worth_retrying
from tasks.downloads import RECORD_NAME, obtain
from tasks.sources import BUNDLED
from tasks.web import AbsentError, Limits, NetworkError
from tests.faults.web import FAULTS, FIRST, NAMES, errno_text

HASTY = Limits(connect_seconds=0.5, answer_seconds=0.5, read_seconds=0.5, file_seconds=1, file_bytes=64 << 20)


@pytest.fixture
def downloads(tmp_path) -> Path:
    """Return where a test's downloads lie; it is not there yet."""
    return tmp_path / "downloads"


@pytest.fixture(scope="module")
def small_digest(small_folder) -> str:
    """Return the dataset digest of the small set."""
    return read_idx_folder(small_folder, "x").digest


def warnings(log: pytest.LogCaptureFixture) -> list[str]:
    """Return the messages of this project's warnings."""
    return [r.getMessage() for r in log.records if r.name.startswith("dcgan") and r.levelno >= logging.WARNING]


def left_behind(downloads: Path) -> list[str]:
    """Return what a failed download left."""
    return [path.name for path in downloads.iterdir()] if downloads.exists() else []


def check_mnist(idx: IdxSet, source: str, folder: Path) -> None:
    """Assert that `idx` is MNIST from that source, whole, in that folder."""
    assert (idx.source, idx.folder) == (source, folder)
    assert [file.sha256 for file in idx.files] == [file.sha256 for file in FILES]
    assert read_idx_folder(folder, source) == idx


def test_the_task_brings_the_bundled_mnist_under_the_state_folder(state):
    """Through the task's own function, without Prefect: four files, checked, in the state folder."""
    idx = download.fn("bundled")
    check_mnist(idx, "bundled", state / "data" / "downloads" / "bundled")
    assert sorted(path.name for path in idx.folder.iterdir()) == sorted([*NAMES, RECORD_NAME])


def test_the_first_mirror_that_serves_mnist_is_used(web, mnist_folder, downloads, log):
    """The first mirror has nothing, so the second one is used, and the third is not asked."""
    second = web.serve("/second", mnist_folder)
    idx = obtain("auto", downloads, (f"{web.address}/first", second, f"{web.address}/third"))
    check_mnist(idx, second, downloads / "auto")
    assert web.asked == [f"/first/{FIRST}", f"/first/{FIRST[:-3]}", *(f"/second/{name}" for name in NAMES)]
    assert warnings(log) == []


def test_without_network_the_bundled_copy_is_used_and_one_line_says_so(nobody, downloads, log):
    """Mirrors that cannot be reached are asked once each; one line says why the bundled copy is used."""
    check_mnist(obtain("auto", downloads, (f"{nobody}/a", f"{nobody}/b")), "bundled", downloads / "auto")
    refused = f"{FIRST}: the connection failed: {errno_text(errno.ECONNREFUSED)}"
    reasons = "; ".join(f"{nobody}/{mirror}/{refused}" for mirror in "ab")
    assert warnings(log) == [f"No mirror served MNIST, so the bundled copy in {BUNDLED} is used ({reasons})."]


def test_a_name_server_that_does_not_answer_costs_seconds(downloads, log, monkeypatch):
    """Where the look-up of a name hangs, as behind a firewall that drops packets, the limit still holds."""
    released = threading.Event()
    looked_up = []

    def hang(host: str, *_args: object, **_named: object) -> list[object]:
        looked_up.append(host)
        released.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    check_mnist(obtain("auto", downloads, ("http://mirror.test/x",), HASTY), "bundled", downloads / "auto")
    released.set()
    assert looked_up == ["mirror.test"]
    assert f"(http://mirror.test/x/{FIRST}: no answer within 0.5 seconds)." in warnings(log)[0]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_url_that_misbehaves_is_named_and_leaves_nothing(fault, web, small_folder, downloads):
    """Each fault gives its own kind of error, so that only what may pass is tried again, and no file stays."""
    source = web.serve("/x", small_folder)
    answer, kind, sentence = FAULTS[fault]
    for name in (FIRST, FIRST[:-3]):
        web.answer(f"/x/{name}", answer(web, (small_folder / FIRST).read_bytes()))
    limits = Limits(connect_seconds=0.4, answer_seconds=0.4, read_seconds=0.6, file_seconds=1, file_bytes=200_000)
    with pytest.raises(DataError) as caught:
        obtain(source, downloads, limits=limits)
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"{source}{sentence}")
    assert f"/x/{FIRST}" in web.asked
    assert left_behind(downloads) == []


@pytest.mark.parametrize("fault", ["404", "html", "nothing at all"])
def test_mirrors_that_misbehave_lead_to_the_bundled_copy(fault, web, mnist_folder, downloads, log):
    """Whatever a mirror does, MNIST is had, and one line says what the mirror did."""
    mirror = web.serve("/x", mnist_folder)
    answer, _, sentence = FAULTS[fault]
    web.answer(f"/x/{FIRST}", answer(web, b""))
    limits = Limits(answer_seconds=0.4, read_seconds=0.6, file_seconds=1)
    check_mnist(obtain("auto", downloads, (mirror,), limits), "bundled", downloads / "auto")
    (line,) = warnings(log)
    assert line.startswith(f"No mirror served MNIST, so the bundled copy in {BUNDLED} is used ({mirror}{sentence[:-1]}")
    assert left_behind(downloads) == ["auto"]


def test_a_mirror_that_serves_other_digits_is_not_believed(web, small_folder, downloads, log):
    """Well-formed files that are not MNIST's are refused by their digest."""
    mirror = web.serve("/x", small_folder)
    check_mnist(obtain("auto", downloads, (mirror,)), "bundled", downloads / "auto")
    small = read_idx_folder(small_folder, "x").train.images.sha256
    reason = f"{mirror}/{FIRST}: has the SHA-256 {small}; expected {TRAIN.images.sha256}"
    assert warnings(log) == [f"No mirror served MNIST, so the bundled copy in {BUNDLED} is used ({reason})."]


def test_redirects_lead_to_the_file(web, small_folder, small_digest, downloads):
    """A few redirections, as mirrors have them, are followed."""
    source = web.serve("/x", small_folder)
    web.answer(f"/moved/{FIRST}", web.redirect(f"/again/{FIRST}"))
    web.answer(f"/again/{FIRST}", web.redirect(f"{source}/{FIRST}"))
    for name in NAMES[1:]:
        web.answer(f"/moved/{name}", web.redirect(f"/x/{name}"))
    assert obtain(f"{web.address}/moved", downloads).digest == small_digest


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_url_of_another_data_set_is_recorded_and_used_again_without_network(ending, web, small_folder, downloads):
    """Its digest is its own, and a second download asks nobody."""
    source = web.serve("/x", small_folder) + ending
    first = obtain(source, downloads)
    assert [(file.name, file.sha256) for file in first.files] == [
        (file.name, file.sha256) for file in read_idx_folder(small_folder, "x").files
    ]
    assert first.source == source.rstrip("/")
    asked = len(web.asked)
    assert obtain(source, downloads) == first
    assert (asked, len(web.asked)) == (4, 4)


def test_files_that_are_not_gzipped_are_found_under_their_plain_names(
    web, small_folder, small_digest, downloads, tmp_path
):
    """A prefix may hold the raw files, and a name may lie about gzip."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for name in NAMES:
        (folder / name[:-3]).write_bytes(gzip.decompress((small_folder / name).read_bytes()))
    (folder / FIRST[:-3]).rename(folder / FIRST)
    idx = obtain(web.serve("/x", folder), downloads)
    assert (idx.digest, idx.train.images.name, idx.train.labels.name) == (small_digest, FIRST, NAMES[1][:-3])


def test_500_then_200_is_worth_another_try(web, small_folder, small_digest, downloads):
    """The first try fails in a way that the task retries, and the second one succeeds."""
    source = web.serve("/x", small_folder)
    good = (small_folder / FIRST).read_bytes()
    web.answer(f"/x/{FIRST}", web.respond(b"", "500 Oops"), web.respond(good))
    with pytest.raises(NetworkError) as caught:
        obtain(source, downloads)
    assert worth_retrying(download, None, Failed(data=caught.value))
    assert obtain(source, downloads).digest == small_digest


@pytest.mark.parametrize("error", [DataError("x"), AbsentError("x"), ConfigurationError("x"), ValueError("x")])
def test_what_stays_wrong_is_not_tried_again(error):
    """A missing file, wrong contents and wrong arguments fail at once."""
    assert not worth_retrying(download, None, Failed(data=error))


def test_the_task_retries_with_growing_delays_and_jitter():
    """Three more tries after 2, 4 and 8 seconds, give or take, under Prefect."""
    assert (download.retries, download.retry_delay_seconds, download.retry_jitter_factor) == (3, [2, 4, 8], 0.5)
    assert download.retry_condition_fn is worth_retrying


def test_a_directory_is_read_each_time(small_folder, small_digest, downloads, tmp_path):
    """A directory of one's own may change, so it is read again, and what was copied from it is replaced."""
    folder = shutil.copytree(small_folder, tmp_path / "my digits")
    first = obtain(str(folder), downloads)
    assert (first.source, first.digest, first.folder.parent) == (str(folder), small_digest, downloads)
    labels = gzip.decompress((folder / NAMES[3]).read_bytes())
    (folder / NAMES[3]).write_bytes(labels[:-1] + bytes([(labels[-1] + 1) % 10]))
    second = obtain(f"file://{folder}".replace(" ", "%20"), downloads)
    assert (second.folder, second.digest != small_digest) == (first.folder, True)
    assert read_idx_folder(second.folder, second.source) == second


@pytest.mark.parametrize("source", ["{tmp}/none", "file://{tmp}/none", "{tmp}/file", "{tmp}/" + "a" * 300])
def test_a_directory_that_is_not_there_is_named(source, downloads, tmp_path):
    """A path or file:// URL that is no directory gives one sentence."""
    (tmp_path / "file").write_text("")
    source = source.format(tmp=tmp_path)
    with pytest.raises(DataError) as caught:
        obtain(source, downloads)
    assert str(caught.value) == (
        f"The source {source.removeprefix('file://')} is not a directory on this machine; expected auto, bundled, "
        "a directory, or a URL that begins with http://, https://, file://, s3://, gs://."
    )
    assert left_behind(downloads) == []


def test_a_directory_without_the_files_is_named(downloads, tmp_path):
    """The sentence has both names that were looked for."""
    with pytest.raises(DataError) as caught:
        obtain(str(tmp_path), downloads)
    assert str(caught.value) == f"{tmp_path}: neither {FIRST} nor {FIRST[:-3]} is there: no such file."
    assert left_behind(downloads) == []


class LocalBucket(LocalFileSystem):
    """A driver for s3:// whose objects lie in folders of this machine."""

    protocol = "s3"
    root = ""
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path if path.startswith(cls.root) else f"{cls.root}/{path.removeprefix('s3://')}"


@pytest.fixture
def bucket(tmp_path, monkeypatch) -> Path:
    """Return the folder that is s3://bucket for this test."""
    monkeypatch.setitem(drivers, "s3", LocalBucket)
    monkeypatch.setattr(LocalBucket, "root", str(tmp_path))
    return tmp_path / "bucket"


def test_a_bucket_is_read_through_its_driver(bucket, small_folder, small_digest, downloads):
    """What fsspec's driver for s3:// gives is downloaded, recorded, and used again."""
    shutil.copytree(small_folder, bucket / "digits")
    idx = obtain("s3://bucket/digits", downloads)
    assert (idx.source, idx.digest) == ("s3://bucket/digits", small_digest)
    shutil.rmtree(bucket)
    assert obtain("s3://bucket/digits", downloads) == idx


def test_what_a_bucket_lacks_or_refuses_is_named(bucket, downloads):
    """A missing object and a driver's failure give one sentence each."""
    with pytest.raises(AbsentError) as caught:
        obtain("s3://bucket/digits", downloads)
    assert str(caught.value) == f"s3://bucket/digits: neither {FIRST} nor {FIRST[:-3]} is there: no such file."
    (bucket / "digits" / FIRST).mkdir(parents=True)
    with pytest.raises(DataError, match=rf"^s3://bucket/digits/{FIRST}: cannot be read: .*Is a directory.*\.$"):
        obtain("s3://bucket/digits", downloads)


@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_a_missing_driver_is_named_with_its_remedy(scheme, package, downloads):
    """The two drivers are not among the pinned packages; the sentence says how to get one."""
    with pytest.raises(DataError) as caught:
        obtain(f"{scheme}://bucket/digits", downloads)
    assert str(caught.value) == (
        f"{scheme}://bucket/digits/{FIRST}: {scheme}:// needs the package {package}; "
        f"install it with .venv/bin/pip install {package}."
    )


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def edit_record(path: Path, text: str) -> None:
    """Change the name of a file in a record."""
    path.write_text(path.read_text().replace(f'"{FIRST}"', json.dumps(text)))


def exchange(path: Path) -> None:
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
    "emptied": (FIRST, empty, f"{FIRST}: byte 0: the file begins with 0x;"),
    "removed": (FIRST, Path.unlink, f"{FIRST[:-3]}: does not exist, with or without .gz."),
    "exchanged": (FIRST, exchange, f"{FIRST}: has the SHA-256 "),
    "no record": (RECORD_NAME, Path.unlink, f"{RECORD_NAME}: cannot be read: No such file or directory."),
    "record cut": (RECORD_NAME, cut, NO_RECORD),
    "record emptied": (RECORD_NAME, empty, NO_RECORD),
    "record not an object": (RECORD_NAME, lambda path: path.write_bytes(b"[]"), NO_RECORD),
    "record not text": (RECORD_NAME, lambda path: path.write_bytes(b"\xff\xfe"), NO_RECORD),
    "record that leads elsewhere": (RECORD_NAME, lambda path: edit_record(path, f"../../{FIRST}"), NO_RECORD),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_download_is_named_and_fetched_again(kind, web, small_folder, downloads, log):
    """Damage to an earlier download is found before use, said in one warning, and healed from the source."""
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
    assert str(caught.value).startswith(f"{damaged}/{NAMES[3]}: byte 0: the file begins with 0x; expected 0x00000801")
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


@pytest.fixture
def netrc(tmp_path, monkeypatch) -> Path:
    """Return a netrc file with a user and password for 127.0.0.1 that the settings name."""
    file = tmp_path / "netrc"
    file.write_text("machine 127.0.0.1 login user password geheim\n")
    monkeypatch.setenv("NETRC", str(file))
    return file


@pytest.mark.usefixtures("netrc")
def test_credentials_stay_with_their_server(web, small_folder, small_digest, downloads):
    """A redirection to another host is followed without the password."""
    source = web.serve("/x", small_folder)
    elsewhere = source.replace("127.0.0.1", "localhost")
    for name in NAMES:
        web.answer(f"/moved/{name}", web.redirect(f"{elsewhere}/{name}"))
    assert obtain(f"{web.address}/moved", downloads).digest == small_digest
    assert (len(web.asked), web.passwords) == (8, ["user:geheim"] * 4)


@pytest.mark.usefixtures("netrc")
def test_credentials_reach_the_server_and_nothing_else(web, small_folder, downloads, log):
    """User and password of a netrc file are sent, and stand in no log of any level, no message and no record."""
    source = web.serve("/x", small_folder)
    idx = obtain(source, downloads)
    web.answer(f"/y/{FIRST}", web.respond(b"", "500 Oops"))
    with pytest.raises(NetworkError) as caught:
        obtain(source.replace("/x", "/y"), downloads)
    assert web.passwords == ["user:geheim"] * 5
    assert idx.source == source
    written = [path.read_bytes() for path in downloads.rglob("*") if path.is_file()]
    everything = [log.text.encode(), str(caught.value).encode(), idx.model_dump_json().encode(), *written]
    assert not any(word in text for text in everything for word in (b"geheim", b"user:"))
    assert any("HTTP Request: GET" in message for message in log.messages)


def test_a_netrc_file_that_is_none_is_named(web, small_folder, downloads, netrc):
    """What is wrong with the file of passwords is one sentence, and nobody is asked."""
    netrc.write_text("a password\n")
    with pytest.raises(DataError) as caught:
        obtain(web.serve("/x", small_folder), downloads)
    assert str(caught.value) == f"The passwords in {netrc} cannot be read: bad toplevel token 'a' ({netrc}, line 1)."
    assert web.asked == []


def test_credentials_in_a_source_are_refused(web, downloads):
    """A password in the address never gets as far as a request."""
    with pytest.raises(ConfigurationError, match="holds credentials"):
        obtain(f"{web.address}/x".replace("://", "://user:geheim@"), downloads)
    assert web.asked == []


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
