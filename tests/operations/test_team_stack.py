"""`make stack` before it starts anything: what it refuses, and the files that it writes."""

import os
import re
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from threading import Event

import pytest
import uvicorn
from prefect.settings import get_current_settings

from dcgan.errors import ConfigurationError
from operations import stack
from operations.servers import ServerSettings
from operations.supervisor import Supervisor
from tests.service_stack import CHECKOUT, free_port
from tests.web import make_certificate

TEMPLATE = CHECKOUT / "deploy" / "compose" / "nginx.conf.template"


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every program be found: what is tested needs none of them."""
    monkeypatch.setattr(stack, "find_programs", lambda: dict.fromkeys(stack.PROGRAMS, "/bin/true"))


@pytest.fixture
def used_port() -> Iterator[int]:
    """Yield a loopback port that another program uses."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def test_a_missing_program_is_one_sentence(
    tmp_path: Path, settings: ServerSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program that is not installed is named, with the package that has it, and nothing is written."""
    monkeypatch.setitem(stack.PROGRAMS, "no-such-program", "Debian's package nothing")
    for name in [name for name in stack.PROGRAMS if name != "no-such-program"]:
        monkeypatch.delitem(stack.PROGRAMS, name)
    assert stack.main([]) == 1
    assert capsys.readouterr().err == (
        "error: The program no-such-program was not found; expected that of Debian's package nothing.\n"
    )
    assert not (settings.root / "stack").exists()


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("variable", ["PREFECT_API_URL", "MLFLOW_TRACKING_URI"])
def test_a_used_port_is_one_sentence(
    variable: str,
    used_port: int,
    settings: ServerSettings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A port of the proxy that another program uses is named with its variable, before anything starts."""
    monkeypatch.setenv(variable, f"http://127.0.0.1:{used_port}{'/api' if variable == 'PREFECT_API_URL' else ''}")
    assert stack.main([]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: Port {used_port} of 127.0.0.1 cannot be used (Address already in use)")
    assert variable in error
    assert not (settings.root / "stack").exists()


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("address", ["https://train.example:4200/api", "http://192.0.2.1:4200/api"])
def test_an_address_elsewhere_is_one_sentence(
    address: str, settings: ServerSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It serves loopback only: it has no TLS."""
    monkeypatch.setenv("PREFECT_API_URL", address)
    assert stack.main([]) == 1
    assert capsys.readouterr().err == (
        f"error: The setting PREFECT_API_URL is {address}; expected an address of this machine's loopback, as "
        "http://127.0.0.1:PORT: the stack of other machines is deploy/compose.yaml.\n"
    )


@pytest.mark.usefixtures("programs")
def test_a_path_too_long_for_a_socket_is_one_sentence(settings: ServerSettings, tmp_path: Path) -> None:
    """The S3 server would end with a stack trace; the longest path that passes can be bound, and one more byte not."""
    longest = 107 - len(os.fsencode(tmp_path / "x" / "stack" / "bucket" / "filer.sock")) + 1
    for length, too_long in ((longest, False), (longest + 1, True)):
        root = tmp_path / ("x" * length)
        path = stack.socket_path(root / "stack", "filer")
        path.parent.mkdir(parents=True)
        expected = pytest.raises(OSError, match="too long") if too_long else nullcontext()
        with expected, socket.socket(socket.AF_UNIX) as probe:
            probe.bind(str(path))
        sentence = f"has {len(str(root))} bytes; expected at most {len(str(root)) - 1}, as Unix sockets"
        with pytest.raises(ConfigurationError, match=sentence) if too_long else nullcontext():
            stack.build_stack(settings.model_copy(update={"state": root}))


@pytest.mark.usefixtures("programs")
def test_passwords_are_made_once_and_are_private(settings: ServerSettings) -> None:
    """The second start finds those of the first, in a file that nobody else may read; they differ from each other."""
    first = stack.build_stack(settings)
    again = stack.build_stack(settings)
    assert first.passwords == again.passwords
    values = first.passwords.model_dump().values()
    assert len(set(values)) == len(values) == 8
    assert min(len(value) for value in values) >= 20
    stack.write_files(first)
    private = [path for path in first.folder.iterdir() if path.is_file()]
    assert {path.name for path in private} >= {
        "passwords.json",
        "settings.sh",
        "redis.conf",
        "mlflow.ini",
        "nginx.conf",
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    assert stat.S_IMODE(first.folder.stat().st_mode) == 0o700


@pytest.mark.usefixtures("programs")
def test_damaged_passwords_are_one_sentence(settings: ServerSettings, capsys: pytest.CaptureFixture[str]) -> None:
    """They are never replaced: the data that they open would be lost."""
    file = stack.build_stack(settings).folder / "passwords.json"
    file.write_text("{")
    assert stack.main([]) == 1
    assert capsys.readouterr().err == (
        f"error: The passwords in {file} cannot be read; expected the file of the first start.\n"
    )
    assert file.read_text() == "{"


@pytest.mark.usefixtures("programs")
def test_no_command_line_has_a_password(settings: ServerSettings) -> None:
    """Other users of the machine can read command lines."""
    team = stack.build_stack(settings)
    lines = [*team.bucket_command(), *team.postgres_command("postgres"), *team.postgres_command("initdb")]
    assert [line for line in lines if any(value in line for value in team.passwords.model_dump().values())] == []


def test_the_proxy_closes_idle_connections_before_the_servers_do() -> None:
    """Else a server closes one just when a request comes, and a POST is answered by 502 instead of repeated."""
    template = TEMPLATE.read_text()
    proxys = [int(seconds) for seconds in re.findall(r"keepalive_timeout (\d+)s;", template)]
    prefects = get_current_settings().server.api.keepalive_timeout
    mlflows = uvicorn.Config("app").timeout_keep_alive
    assert len(proxys) == template.count("upstream ") == 2
    assert max(proxys) < min(prefects, mlflows)


@pytest.mark.usefixtures("programs")
def test_ports_are_free_and_apart(settings: ServerSettings) -> None:
    """All ports differ, and none is one that the system gives to outgoing connections."""
    ports = stack.build_stack(settings).ports
    chosen = [ports.postgres, ports.redis, *ports.prefect, ports.mlflow, ports.bucket, *ports.bucket_parts]
    assert len(set(chosen)) == len(chosen) == 13
    assert max(chosen) < 32_768


@pytest.mark.stack
def test_another_password_is_one_sentence(settings: ServerSettings, tmp_path: Path) -> None:
    """PostgreSQL keeps the password of its first start, and its data when another one is tried."""
    first = stack.build_stack(settings)
    run_stores(first, tmp_path / "first")
    (first.folder / "passwords.json").unlink()
    with pytest.raises(ConfigurationError) as caught:
        run_stores(stack.build_stack(settings), tmp_path / "second")
    assert str(caught.value) == (
        f"PostgreSQL in {first.folder / 'postgres'} refuses the password in {first.folder / 'passwords.json'}; "
        "expected that of its first start."
    )
    (first.folder / "passwords.json").write_text(first.passwords.model_dump_json())
    run_stores(stack.build_stack(settings), tmp_path / "third")


def run_stores(team: stack.Stack, logs: Path) -> None:
    """Start PostgreSQL, Redis and the S3 server, and stop them when they answer."""
    stack.write_files(team)
    supervisor = Supervisor(logs, Event())
    try:
        stack.start_stores(team, supervisor)
    finally:
        supervisor.stop()


@pytest.mark.stack
@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("tls", [False, True])
def test_nginx_accepts_the_rules(tls: bool, settings: ServerSettings, tmp_path: Path) -> None:
    """Nginx reads the template as `make stack` fills it in, and as compose.yaml does, with a certificate."""
    team = stack.build_stack(settings)
    stack.write_files(team)
    values = stack.proxy_values(team)
    if tls:
        certificate, key = make_certificate(tmp_path)
        folder = team.folder / "nginx" / "tls"
        folder.mkdir()
        text = (TEMPLATE.parent / "tls.conf").read_text()
        text = text.replace("/run/secrets/tls-certificate", str(certificate)).replace("/run/secrets/tls-key", str(key))
        (folder / "tls.conf").write_text(text)
        values |= {f"{name}_LISTEN": f"127.0.0.1:{free_port()} ssl" for name in ("PREFECT", "MLFLOW")}
        values["PROXY_NAMES"] = "train.example"
    file = tmp_path / "nginx.conf"
    file.write_text(stack.render(TEMPLATE.read_text(), values))
    command = ["nginx", "-t", "-q", "-e", "stderr", "-c", str(file)]
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])
    done = subprocess.run(command, env={"PATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
