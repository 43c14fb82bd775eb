"""Passwords of servers reach the server that they are for, and nothing else."""

from pathlib import Path

import pytest

from dcgan.errors import ConfigurationError, DataError, NetworkError
from tasks.download import obtain
from tests.faults.web import FIRST, NAMES


@pytest.fixture
def netrc(tmp_path) -> Path:
    """Return a netrc file with a user and password for 127.0.0.1."""
    file = tmp_path / "netrc"
    file.write_text("machine 127.0.0.1 login user password geheim\n")
    return file


def test_credentials_stay_with_their_server(web, small_folder, small_digest, downloads, netrc):
    """A redirection to another host is followed without the password."""
    source = web.serve("/x", small_folder)
    elsewhere = source.replace("127.0.0.1", "localhost")
    for name in NAMES:
        web.answer(f"/moved/{name}", web.redirect(f"{elsewhere}/{name}"))
    assert obtain(f"{web.address}/moved", downloads, netrc=netrc).digest == small_digest
    assert (len(web.asked), web.passwords) == (8, ["user:geheim"] * 4)


def test_credentials_reach_the_server_and_nothing_else(web, small_folder, downloads, netrc, log):
    """User and password of a netrc file are sent, and stand in no log of any level, no message and no record."""
    source = web.serve("/x", small_folder)
    idx = obtain(source, downloads, netrc=netrc)
    web.answer(f"/y/{FIRST}", web.respond(b"", "500 Oops"))
    with pytest.raises(NetworkError) as caught:
        obtain(source.replace("/x", "/y"), downloads, netrc=netrc)
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
        obtain(web.serve("/x", small_folder), downloads, netrc=netrc)
    assert str(caught.value) == f"The passwords in {netrc} cannot be read: bad toplevel token 'a' ({netrc}, line 1)."
    assert web.asked == []


def test_credentials_in_a_source_are_refused(web, downloads):
    """A password in the address never gets as far as a request."""
    with pytest.raises(ConfigurationError, match="contains credentials"):
        obtain(f"{web.address}/x".replace("://", "://user:geheim@"), downloads)
    assert web.asked == []
