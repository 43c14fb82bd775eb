"""Sources: what is one, what is not, and how one is written where others can read it."""

from pathlib import Path

import pytest

from dcgan.errors import ConfigurationError, mask_credentials
from tasks.sources import BUNDLED, check_source, local_folder

EXPECTED = "expected auto, bundled, a directory, or a URL that begins with http://, https://, file://, s3://, gs://."

CREDENTIALS = (
    "contains credentials, which Prefect would store; expected them in ~/.netrc, "
    "or, for s3:// and gs://, where s3fs and gcsfs look for them."
)


@pytest.mark.parametrize(
    "source",
    [
        "auto",
        "bundled",
        "data/mnist",
        "/a b/c",
        "~/x",
        "https://h/x@y",
        "http://[::1]:80/",
        "file:///a",
        "s3://b/c",
        "gs://b",
    ],
)
def test_sources_are_accepted(source):
    """Every form of the interface is a source, whether it exists or not."""
    assert check_source(source) == source


@pytest.mark.parametrize(
    ("source", "used"),
    [
        ("HTTP://Host:80/X", "http://Host:80/X"),
        ("FILE:///a", "file:///a"),
        ("file://localhost/a", "file:///a"),
        ("S3://Bucket/x", "s3://Bucket/x"),
    ],
)
def test_what_is_checked_is_what_is_used(source, used):
    """A URL's scheme counts in upper case too, and this machine may be named."""
    assert check_source(source) == used


BAD = {
    "": f"The source '' is empty or not text; {EXPECTED}",
    "  ": f"The source '  ' is empty or not text; {EXPECTED}",
    "a\0b": f"The source 'a\\x00b' is empty or not text; {EXPECTED}",
    "ftp://h/x": f"The source ftp://h/x cannot be used; {EXPECTED}",
    "https://": f"The source https:// cannot be used; {EXPECTED}",
    "http:///x": f"The source http:///x cannot be used; {EXPECTED}",
    "http://h:99999/x": f"The source http://h:99999/x cannot be used; {EXPECTED}",
    "http://[::1/x": f"The source http://[::1/x cannot be used; {EXPECTED}",
    "http://u:p@h:port/x": f"The source http://***@h:port/x cannot be used; {EXPECTED}",
    "file://share/x": "The source file://share/x is on another machine; expected file:// and a path of this one.",
    "s3://": f"The source s3:// cannot be used; {EXPECTED}",
    "https://h/x?token=1": ("The source https://h/x?*** has a query or fragment; expected the prefix of four files."),
    "https://h/x#y": ("The source https://h/x?*** has a query or fragment; expected the prefix of four files."),
    "https://u:p@h/x": f"The source https://***@h/x {CREDENTIALS}",
    "https://token@h/x#y": f"The source https://***@h/x?*** {CREDENTIALS}",
    "s3://key:secret@bucket/x": f"The source s3://***@bucket/x {CREDENTIALS}",
}


@pytest.mark.parametrize(("source", "sentence"), BAD.items())
def test_what_cannot_be_a_source_is_refused(source, sentence):
    """One sentence says what was given, credentials masked, and what was expected."""
    with pytest.raises(ConfigurationError) as caught:
        check_source(source)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://host/x", "https://host/x"),
        ("https://user:secret@host/x", "https://***@host/x"),
        ("https://secret@host:8080/x", "https://***@host:8080/x"),
        ("https://user:s@cret@host/x", "https://***@host/x"),
        ("https://user:se/cret@host/x", "https://***@host/x"),
        ("https://user:se?cr#et@host/x", "https://***@host/x"),
        ("https://host/x?token=secret&a=b", "https://host/x?***"),
        ("https://host/x#secret", "https://host/x?***"),
        ("s3://key:secret@bucket/x", "s3://***@bucket/x"),
        ("from http://u:secret@a/x and https://v:secret@b/y.", "from http://***@a/x and https://***@b/y."),
        ("/home/me@work/x", "/home/me@work/x"),
        ("sqlite:////home/me@work/x.db", "sqlite:////home/me@work/x.db"),
    ],
)
def test_credentials_are_masked(text, masked):
    """User, password, query and fragment never come through, wherever a URL stands in a text."""
    assert mask_credentials(text) == masked


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("auto", None),
        ("bundled", BUNDLED),
        ("https://h/x", None),
        ("s3://b/x", None),
        ("file:///a%20b/c", Path("/a b/c")),
        ("/a b/c", Path("/a b/c")),
        ("data", Path.cwd() / "data"),
        ("~/data", Path.home() / "data"),
        ("~nobody-here/x", Path.cwd() / "~nobody-here" / "x"),
    ],
)
def test_local_folders_are_known(source, folder):
    """A path, a file:// URL and the bundled copy are folders of this machine; nothing else is."""
    assert local_folder(source) == folder
