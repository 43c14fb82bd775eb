"""The download from folders and buckets, which may change or lack what is asked for."""

import gzip
import os
import shutil
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import _registry as drivers

from dcgan.data.idx import read_idx_folder
from dcgan.errors import DataError
from tasks.download import obtain
from tasks.sources import AbsentError
from tests.downloads import left_behind
from tests.faults.web import FIRST, NAMES


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
    assert str(caught.value) == f"{tmp_path}: neither {FIRST} nor {FIRST[:-3]} exists: no such file."
    assert left_behind(downloads) == []


def test_names_with_a_dot_are_accepted(small_folder, small_digest, downloads, tmp_path):
    """Some copies of MNIST are called train-images.idx3-ubyte; they are the same files."""
    folder = shutil.copytree(small_folder, tmp_path / "dotted")
    for file in list(folder.iterdir()):
        file.rename(folder / file.name.replace("-idx", ".idx"))
    fetched = obtain(str(folder), downloads)
    assert fetched.digest == small_digest
    assert [file.name for file in fetched.files] == list(NAMES)


@pytest.mark.parametrize(
    ("make", "what"), [(os.mkfifo, "a pipe, a socket or a device"), (os.mkdir, "a folder")], ids=["pipe", "folder"]
)
def test_what_is_no_file_is_not_opened(make, what, small_folder, downloads, tmp_path):
    """To read a pipe would wait for ever."""
    folder = shutil.copytree(small_folder, tmp_path / "digits")
    (folder / FIRST).unlink()
    make(folder / FIRST)
    with pytest.raises(DataError) as caught:
        obtain(str(folder), downloads)
    assert str(caught.value) == f"{folder / FIRST}: is {what}; expected a file."
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
    assert str(caught.value) == f"s3://bucket/digits: neither {FIRST} nor {FIRST[:-3]} exists: no such file."
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
