"""The private Prefect server of a command: its own port, its own session, and the end of its parent."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_URL,
    PREFECT_HOME,
    temporary_settings,
)

from dcgan.errors import ConfigurationError
from operations.prefect_server import prefect_server
from tests.service_stack import CHECKOUT
from tests.web import Web

PROGRAM = """
import sys
from prefect.settings import PREFECT_API_URL
from operations.prefect_server import prefect_server
with prefect_server() as url:
    assert PREFECT_API_URL.value() == url
    print(url, flush=True)
    sys.stdin.read()
"""


def start(folder: Path, python: Path = Path(sys.executable)) -> "subprocess.Popen[str]":
    """Start a program that uses a private server until its standard input closes."""
    return subprocess.Popen(
        [python, "-c", PROGRAM],
        cwd=CHECKOUT,
        env={**os.environ, "DCGAN_STATE": str(folder), "PREFECT_HOME": str(folder / "prefect")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def private_server(tmp_path: Path) -> Iterator[str]:
    """Yield the URL of a command's own server."""
    settings = temporary_settings({PREFECT_HOME: tmp_path / "prefect"}, restore_defaults={PREFECT_API_URL})
    with settings, prefect_server() as url:
        yield url


@pytest.mark.slow
@pytest.mark.parametrize("how", ["by itself", "killed"])
def test_the_server_ends_with_its_parent(how: str, tmp_path: Path) -> None:
    """It answers on loopback, is out of Ctrl-C's reach, and ends however its parent ends."""
    with start(tmp_path) as program:
        url = program.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        assert httpx.get(f"{url}/health").json() is True
        (server,) = psutil.Process(program.pid).children()
        assert os.getsid(server.pid) == server.pid != os.getsid(program.pid)
        if how == "killed":
            program.kill()
        program.communicate()
    assert program.returncode == (-signal.SIGKILL if how == "killed" else 0)
    _, alive = psutil.wait_procs([server], timeout=60)
    assert alive == []


@pytest.mark.slow
def test_it_leaves_automations_to_the_servers_of_the_machine(private_server: str) -> None:
    """Those that `make deploy` has left in its database do nothing to a command's own flow run."""
    user, password = PREFECT_API_AUTH_STRING.value().split(":")
    settings = httpx.get(f"{private_server}/admin/settings", auth=(user, password)).json()
    assert settings["server"]["services"]["triggers"]["enabled"] is False


def run_worker(server: str, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a worker that is refused."""
    login = PREFECT_API_AUTH_STRING.value()
    return subprocess.run(
        [sys.executable, "-m", "operations.worker", *options],
        cwd=CHECKOUT,
        env={**os.environ, "PREFECT_API_URL": server, "PREFECT_API_AUTH_STRING": login, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
def test_a_worker_whose_health_check_cannot_listen_is_refused(private_server: str) -> None:
    """Prefect's own worker would run without it, and whoever asks would hear of another worker's health."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = run_worker(private_server, "--pool", "cpu", "--with-healthcheck", PREFECT_WORKER_WEBSERVER_PORT=port)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: Port {port} of 127.0.0.1 cannot be used (Address already in use)")
    assert done.stderr.endswith("or name another port in PREFECT_WORKER_WEBSERVER_PORT.\n")


@pytest.mark.slow
def test_a_worker_of_a_pool_that_does_not_exist_is_refused(private_server: str) -> None:
    """Prefect's own worker would create the pool, and wait for ever."""
    done = run_worker(private_server, "--pool", "nope")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: Prefect's server has no work pool nope; expected one of cpu, gpu, or another one that 'make deploy' "
        "creates.\n"
    )


@pytest.mark.slow
def test_two_commands_may_create_the_database_at_once(tmp_path: Path) -> None:
    """Each gets a server of its own over the same database."""
    with start(tmp_path) as first, start(tmp_path) as second:
        urls = [program.stdout.readline().strip() for program in (first, second)]
        assert [httpx.get(f"{url}/health").json() for url in urls] == [True, True]
        assert len(set(urls)) == 2
        first.communicate()
        second.communicate()
    assert (first.returncode, second.returncode) == (0, 0)


def test_a_server_that_does_not_answer_is_refused(free_port: int) -> None:
    """An API address that is set is used or refused, never replaced, and its password is not shown."""
    with (
        temporary_settings({PREFECT_API_URL: f"http://me:secret@127.0.0.1:{free_port}/api"}),
        pytest.raises(ConfigurationError) as caught,
        prefect_server(),
    ):
        pass
    shown = f"http://***@127.0.0.1:{free_port}/api"
    assert str(caught.value).startswith(f"The Prefect API {shown} does not answer (")
    assert str(caught.value).endswith("); expected a running server there, or no PREFECT_API_URL for a private one.")


@pytest.mark.slow
@pytest.mark.parametrize("again_with_template", [True, False])
def test_a_database_that_was_left_half_made_is_made_anew(
    tmp_path: Path, python_without_templates: Path, *, again_with_template: bool
) -> None:
    """Killed among the migrations, or without space for them, a server leaves a database that no migration fits."""
    database = tmp_path / "prefect" / "prefect.db"
    mark = database.with_name(".prefect.db.incomplete")
    with start(tmp_path, python_without_templates) as program:
        while not (mark.exists() and database.exists()):
            assert program.poll() is None
            time.sleep(0.05)
        (server,) = psutil.Process(program.pid).children()
        server.kill()
        program.kill()
        program.communicate()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS flow (id TEXT)")
        connection.execute("DROP TABLE IF EXISTS alembic_version")
    with start(tmp_path, Path(sys.executable) if again_with_template else python_without_templates) as program:
        url = program.stdout.readline().strip()
        assert httpx.get(f"{url}/health").json() is True
        program.communicate()
    assert program.returncode == 0
    assert database.exists()
    assert not mark.exists()


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ("401 Unauthorized", "refuses PREFECT_API_AUTH_STRING; expected USER:PASSWORD of that server."),
        ("404 Not Found", "answers with HTTP 404; expected a running server there"),
        ("200 OK", "does not answer as Prefect does; expected a running server there"),
    ],
)
def test_a_server_that_refuses_is_reported_before_anything_begins(web: Web, status: str, sentence: str) -> None:
    """A wrong password, and what is no Prefect server, before the flow run is created."""
    web.answer("/api/health", web.respond(b"true"))
    web.answer("/api/admin/version", web.respond(b"<html>", status))
    with (
        temporary_settings({PREFECT_API_URL: f"{web.address}/api"}),
        pytest.raises(ConfigurationError) as refusal,
        prefect_server(),
    ):
        pass
    assert str(refusal.value).startswith(f"The Prefect API {web.address}/api {sentence}")
    assert len(web.asked) == 1


def test_an_address_that_is_not_the_apis_is_named(web: Web) -> None:
    """Without /api at its end there is a running server, whose page it is."""
    with (
        temporary_settings({PREFECT_API_URL: web.address}),
        pytest.raises(ConfigurationError) as refusal,
        prefect_server(),
    ):
        pass
    assert str(refusal.value) == (
        f"The setting PREFECT_API_URL is '{web.address}', where there is no API of Prefect; expected the address of "
        "one, such as http://HOST:PORT/api."
    )


def test_a_server_is_trusted_by_prefects_own_settings(tls_web: tuple[Web, Path]) -> None:
    """A certificate that Prefect's client trusts is enough, and none other is."""
    web, certificate = tls_web
    web.answer("/api/admin/version", web.respond(b'"3.8.8"'))
    with temporary_settings({PREFECT_API_URL: f"{web.address}/api"}):
        with (
            pytest.raises(ConfigurationError, match=r"does not answer \(.*CERTIFICATE_VERIFY_FAILED"),
            prefect_server(),
        ):
            pass
        with temporary_settings({PREFECT_API_SSL_CERT_FILE: str(certificate)}), prefect_server() as url:
            assert url == f"{web.address}/api"
