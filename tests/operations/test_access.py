"""Who is let in where: what is refused before any server starts, and what servers and workers are told."""

from pathlib import Path

import pytest

from dcgan.errors import ConfigurationError
from operations import programs
from operations.access import demand_passwords
from operations.addresses import ServerSettings

PASSWORDS = {
    "PREFECT_API_AUTH_STRING": "me:prefect-secret",
    "MLFLOW_TRACKING_USERNAME": "me",
    "MLFLOW_TRACKING_PASSWORD": "mlflow-secret",
}


@pytest.fixture
def settings(state: Path, monkeypatch: pytest.MonkeyPatch) -> type[ServerSettings]:
    """Return the class of the settings, in an environment that names no server and no password."""
    for name in ("PREFECT_API_URL", "DCGAN_LISTEN", *PASSWORDS):
        monkeypatch.delenv(name, raising=False)
    return ServerSettings


def test_loopback_needs_no_password(settings: type[ServerSettings]) -> None:
    """By default the servers listen on loopback, and let everyone of this machine in."""
    demand_passwords(settings())
    assert settings().listen == "127.0.0.1"
    for command in (programs.prefect_server(settings()), programs.mlflow_server(settings())):
        assert command[command.index("--host") + 1] == "127.0.0.1"
        assert "basic-auth" not in command


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.2", "192.168.1.5", "::"])
@pytest.mark.parametrize("missing", [*([name] for name in PASSWORDS), list(PASSWORDS)])
def test_elsewhere_without_passwords_is_refused(
    settings: type[ServerSettings], address: str, missing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any other address is refused while one of the settings is missing, and the sentence names what is."""
    for name, value in {**PASSWORDS, **dict.fromkeys(missing, "")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DCGAN_LISTEN", address)
    with pytest.raises(ConfigurationError) as caught:
        demand_passwords(settings())
    assert str(caught.value) == (
        f"The setting DCGAN_LISTEN is {address}, where other machines may come, without a value of "
        f"{' and '.join(missing)}: set what is missing, or leave DCGAN_LISTEN out to listen on 127.0.0.1."
    )


def test_only_what_starts_here_needs_passwords(settings: type[ServerSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a server that runs elsewhere, no password is demanded for this machine."""
    monkeypatch.setenv("DCGAN_LISTEN", "192.168.1.5")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:prefect-secret")
    demand_passwords(settings())
    assert settings().prefect.url == "http://192.168.1.5:4200/api"


def test_a_short_password_is_refused(settings: type[ServerSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    """What MLflow would refuse in its log is told before it starts."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "short")
    with pytest.raises(ConfigurationError) as caught:
        demand_passwords(settings())
    assert str(caught.value) == (
        "The setting MLFLOW_TRACKING_PASSWORD is too short for MLflow's server; "
        "expected a password of at least 12 characters."
    )


@pytest.mark.parametrize("address", ["gpu-box", "http://127.0.0.1", "1.2.3", "127.0.0.1:80"])
def test_what_is_no_address_is_refused(
    settings: type[ServerSettings], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name, a URL and a port are told apart from an address."""
    monkeypatch.setenv("DCGAN_LISTEN", address)
    with pytest.raises(ConfigurationError) as caught:
        settings().prefect  # noqa: B018 - reading it checks it
    assert str(caught.value) == (
        f"The setting DCGAN_LISTEN is {address!r}; expected an IP address of this machine, or 0.0.0.0 for all of them."
    )


@pytest.mark.parametrize(
    ("address", "clients", "bound"),
    [
        ("0.0.0.0", "http://127.0.0.1:5000", "0.0.0.0"),
        ("192.168.1.5", "http://192.168.1.5:5000", "192.168.1.5"),
        ("::1", "http://[::1]:5000", "::1"),
        ("fd00::5", "http://[fd00::5]:5000", "fd00::5"),
        ("localhost", "http://127.0.0.1:5000", "127.0.0.1"),
    ],
)
def test_clients_and_servers_meet(
    settings: type[ServerSettings], address: str, clients: str, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients of this machine are told an address at which the server that it starts listens."""
    monkeypatch.setenv("DCGAN_LISTEN", address)
    assert settings().mlflow.is_ours
    assert (settings().mlflow.url, settings().mlflow.bind_host) == (clients, bound)


def test_passwords_travel_in_the_environment_alone(
    settings: type[ServerSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers get the passwords of their clients, never on the command line, and signing keys are never the same."""
    for name, value in {**PASSWORDS, "DCGAN_LISTEN": "0.0.0.0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:database-secret@127.0.0.1/mlflow")
    commands = [*programs.prefect_server(settings()), *programs.mlflow_server(settings()), *programs.worker("cpu", "x")]
    assert [word for word in commands if "secret" in word] == []
    assert "basic-auth" in commands
    first, second = programs.server_environment(settings()), programs.server_environment(settings())
    assert first["PREFECT_SERVER_API_AUTH_STRING"] == "me:prefect-secret"
    assert (first["MLFLOW_AUTH_ADMIN_USERNAME"], first["MLFLOW_AUTH_ADMIN_PASSWORD"]) == ("me", "mlflow-secret")
    assert first["MLFLOW_BACKEND_STORE_URI"] == "postgresql://me:database-secret@127.0.0.1/mlflow"
    assert first["MLFLOW_FLASK_SERVER_SECRET_KEY"] != second["MLFLOW_FLASK_SERVER_SECRET_KEY"]
    of_servers = {"PREFECT_SERVER_API_AUTH_STRING", "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_BACKEND_STORE_URI"}
    assert not of_servers & programs.environment(settings()).keys()
