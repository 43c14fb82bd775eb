"""Which servers the environment means, and what is said of an address that cannot be used."""

import socket
from pathlib import Path

import pytest

from dcgan.errors import ConfigurationError
from operations.addresses import Address, ServerSettings


@pytest.fixture
def no_servers(state: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a state folder, in an environment that names no server."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return state


def test_defaults_are_this_machine(no_servers: Path) -> None:
    """Without a word, both servers are on loopback at their usual ports, over the state folder's database."""
    settings = ServerSettings()
    assert (settings.prefect.url, settings.prefect.port) == ("http://127.0.0.1:4200/api", 4200)
    assert (settings.mlflow.url, settings.mlflow.port) == ("http://127.0.0.1:5000", 5000)
    assert settings.prefect.is_ours
    assert settings.mlflow.is_ours
    assert settings.store == f"sqlite:///{no_servers / 'mlflow.db'}"


@pytest.mark.usefixtures("no_servers")
def test_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses elsewhere are taken as they stand, and are not this machine's to start."""
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.example/api/")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    settings = ServerSettings()
    assert (settings.prefect.url, settings.prefect.port) == ("https://prefect.example/api", 443)
    assert not settings.prefect.is_ours
    assert not settings.mlflow.is_ours


def test_a_database_is_served_from_here(no_servers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracking URI that is a database, not a server, is what this machine's server serves."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{no_servers}/other.db")
    settings = ServerSettings()
    assert settings.store == f"sqlite:///{no_servers}/other.db"
    assert settings.mlflow.url == "http://127.0.0.1:5000"


@pytest.mark.parametrize("url", ["127.0.0.1:4200", "ftp://host/api", "http://", "http://host:port/api", "http://h:0"])
@pytest.mark.usefixtures("no_servers")
def test_unusable_address_is_one_sentence(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no address of a server is refused by the name of its setting."""
    monkeypatch.setenv("PREFECT_API_URL", url)
    with pytest.raises(ConfigurationError) as caught:
        ServerSettings().prefect  # noqa: B018 - reading it checks it
    assert str(caught.value) == (f"The setting PREFECT_API_URL is {url!r}; expected an address like http://HOST:PORT.")


def test_taken_port_is_one_sentence() -> None:
    """A port that another program holds is named, with the setting that chooses another."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        address = Address(f"http://127.0.0.1:{port}/api", "PREFECT_API_URL")
        with pytest.raises(ConfigurationError) as caught:
            address.demand_free_port()
    assert str(caught.value) == (
        f"Port {port} of 127.0.0.1 cannot be used (Address already in use): stop what holds it, "
        "or set PREFECT_API_URL to an address with another port."
    )
    address.demand_free_port()
