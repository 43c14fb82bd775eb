"""Where the servers are, who may use them, and the sentence for each setting that cannot be used."""

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from dcgan.errors import ConfigurationError
from operations import ui
from operations.servers import (
    Address,
    ServerSettings,
    mlflow_command,
    prefect_command,
    require_passwords,
    server_environment,
    worker_command,
    worker_environment,
)

PASSWORDS = {
    "PREFECT_API_AUTH_STRING": "me:prefect-secret",
    "MLFLOW_TRACKING_USERNAME": "me",
    "MLFLOW_TRACKING_PASSWORD": "mlflow-secret",
}


@pytest.fixture(autouse=True)
def empty_environment(state: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty state folder, in an environment that names no server and no password."""
    for name in ("PREFECT_API_URL", "DCGAN_LISTEN", *PASSWORDS):
        monkeypatch.delenv(name, raising=False)
    return state


def test_by_default_both_servers_are_on_this_machine(empty_environment: Path) -> None:
    """Both are on loopback at their usual ports, over the state folder's database, and need no password."""
    settings = ServerSettings()
    require_passwords(settings)
    assert (settings.prefect.url, settings.prefect.port) == ("http://127.0.0.1:4200/api", 4200)
    assert (settings.mlflow.url, settings.mlflow.port) == ("http://127.0.0.1:5000", 5000)
    assert settings.prefect.is_local
    assert settings.mlflow.is_local
    assert settings.mlflow_database == f"sqlite:///{empty_environment / 'mlflow.db'}"
    for command in (prefect_command(settings), mlflow_command(settings)):
        assert command[command.index("--host") + 1] == "127.0.0.1"
        assert "basic-auth" not in command


@pytest.mark.parametrize("spelt", [str.lower, str.upper])
def test_only_the_documented_variables_count(spelt: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that happens to have the name of a field, such as STATE or LISTEN_AT, changes nothing."""
    before = ServerSettings()
    for name in ServerSettings.model_fields.keys() - {"netrc"}:  # NETRC is documented
        monkeypatch.setenv(spelt(name), "7")
    assert ServerSettings() == before


def test_servers_elsewhere_are_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses of other machines are used as they are, and do not belong to this machine."""
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.example/api/")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    settings = ServerSettings()
    assert (settings.prefect.url, settings.prefect.port) == ("https://prefect.example/api", 443)
    assert not settings.prefect.is_local
    assert not settings.mlflow.is_local


def test_a_database_is_served_from_here(empty_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the tracking URI is a database, this machine's server serves it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{empty_environment}/other.db")
    settings = ServerSettings()
    assert settings.mlflow_database == f"sqlite:///{empty_environment}/other.db"
    assert settings.mlflow.url == "http://127.0.0.1:5000"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        *((url, url) for url in ("127.0.0.1:4200", "ftp://host/api", "http://", "http://host:port/api", "http://h:0")),
        ("ftp://me:secret@host/api", "ftp://***@host/api"),
    ],
)
def test_an_unusable_url_is_one_sentence(url: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the setting and hides credentials."""
    monkeypatch.setenv("PREFECT_API_URL", url)
    with pytest.raises(ConfigurationError) as caught:
        ServerSettings().prefect  # noqa: B018 - reading it checks it
    assert str(caught.value) == f"The setting PREFECT_API_URL is {shown!r}; expected an address like http://HOST:PORT."


@pytest.mark.parametrize("address", ["gpu-box", "http://127.0.0.1", "1.2.3", "127.0.0.1:80"])
def test_only_an_ip_address_can_be_listened_on(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name, a URL and a port are refused."""
    monkeypatch.setenv("DCGAN_LISTEN", address)
    with pytest.raises(ConfigurationError) as caught:
        ServerSettings().prefect  # noqa: B018 - reading it checks it
    assert str(caught.value) == (
        f"The setting DCGAN_LISTEN is {address!r}; expected an IP address of this machine, or 0.0.0.0 for all of them."
    )


def test_a_used_port_is_one_sentence() -> None:
    """The sentence names the port, who uses it, and the setting that chooses another."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        address = Address(f"http://127.0.0.1:{port}/api", "PREFECT_API_URL")
        with pytest.raises(ConfigurationError) as caught:
            address.require_free_port()
    assert re.fullmatch(
        rf"Port {port} of 127\.0\.0\.1 cannot be used \(Address already in use\): stop the process {os.getpid()} "
        r"\(.*python.*\), or name another port in PREFECT_API_URL\.",
        str(caught.value),
    )
    address.require_free_port()


@pytest.mark.parametrize(
    ("address", "client_url", "bound"),
    [
        ("0.0.0.0", "http://127.0.0.1:5000", "0.0.0.0"),
        ("192.168.1.5", "http://192.168.1.5:5000", "192.168.1.5"),
        ("::1", "http://[::1]:5000", "::1"),
        ("fd00::5", "http://[fd00::5]:5000", "fd00::5"),
        ("localhost", "http://127.0.0.1:5000", "127.0.0.1"),
    ],
)
def test_clients_and_servers_use_the_same_address(
    address: str, client_url: str, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients of this machine get a URL at which the server that it starts listens."""
    monkeypatch.setenv("DCGAN_LISTEN", address)
    mlflow = ServerSettings().mlflow
    assert mlflow.is_local
    assert (mlflow.url, mlflow.bind_host) == (client_url, bound)


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.2", "192.168.1.5", "::"])
@pytest.mark.parametrize("missing", [*([name] for name in PASSWORDS), list(PASSWORDS)])
def test_beyond_loopback_every_password_is_required(
    address: str, missing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any other address is refused while a password is missing, and the sentence names what is missing."""
    for name, value in {**PASSWORDS, **dict.fromkeys(missing, "")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DCGAN_LISTEN", address)
    with pytest.raises(ConfigurationError) as caught:
        require_passwords(ServerSettings())
    assert str(caught.value) == (
        f"The setting DCGAN_LISTEN is {address}, which other machines may reach, without a value of "
        f"{' and '.join(missing)}: set what is missing, or leave DCGAN_LISTEN out to listen on 127.0.0.1."
    )


def test_only_servers_of_this_machine_need_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a server that runs elsewhere, no password is required here."""
    monkeypatch.setenv("DCGAN_LISTEN", "192.168.1.5")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:prefect-secret")
    require_passwords(ServerSettings())
    assert ServerSettings().prefect.url == "http://192.168.1.5:4200/api"


def test_a_short_password_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What MLflow would refuse only in its log is reported before it starts."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "short")
    with pytest.raises(ConfigurationError) as caught:
        require_passwords(ServerSettings())
    assert str(caught.value) == (
        "The setting MLFLOW_TRACKING_PASSWORD is too short for MLflow's server; "
        "expected a password of at least 12 characters."
    )


def test_passwords_are_passed_in_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers get their clients' passwords, never on a command line, and signing keys differ at each start."""
    for name, value in {**PASSWORDS, "DCGAN_LISTEN": "0.0.0.0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:database-secret@127.0.0.1/mlflow")
    settings = ServerSettings()
    words = [*prefect_command(settings), *mlflow_command(settings), *worker_command("cpu", "x")]
    assert [word for word in words if "secret" in word] == []
    assert "basic-auth" in words
    first, second = server_environment(settings), server_environment(settings)
    assert first["PREFECT_SERVER_API_AUTH_STRING"] == "me:prefect-secret"
    assert (first["MLFLOW_AUTH_ADMIN_USERNAME"], first["MLFLOW_AUTH_ADMIN_PASSWORD"]) == ("me", "mlflow-secret")
    assert first["MLFLOW_BACKEND_STORE_URI"] == "postgresql://me:database-secret@127.0.0.1/mlflow"
    assert first["MLFLOW_FLASK_SERVER_SECRET_KEY"] != second["MLFLOW_FLASK_SERVER_SECRET_KEY"]
    only_servers = {"PREFECT_SERVER_API_AUTH_STRING", "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_BACKEND_STORE_URI"}
    assert only_servers <= first.keys()
    assert not only_servers & worker_environment(settings).keys()


def test_the_lines_for_another_terminal(empty_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ports or folders are not the usual ones, the lines that are printed name them; passwords they do not."""
    monkeypatch.delenv("DCGAN_STATE")
    assert '\n  eval "$(make env)"\n' in ui.welcome(ServerSettings())
    monkeypatch.setenv("DCGAN_STATE", "/somewhere/a b")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4300/api")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:planted")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://mlflow:planted@host/mlflow")
    text = ui.welcome(ServerSettings())
    places = (
        "DCGAN_STATE='/somewhere/a b' MLFLOW_TRACKING_URI='postgresql://***@host/mlflow' "
        "PREFECT_API_URL=http://127.0.0.1:4300/api"
    )
    assert f'\n  eval "$({places} make env)"\n' in text
    assert "planted" not in text
