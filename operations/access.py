"""Who may use the servers: everyone on this machine, or, beyond it, only who knows the passwords.

Passwords travel in the environment: a command line can be read by every user of the machine.
"""

import base64
import platform
import secrets
import socket
from collections.abc import Mapping
from configparser import ConfigParser
from pathlib import Path

import psutil
from prefect.client.base import PrefectHttpxSyncClient

from dcgan.errors import ConfigurationError
from operations.addresses import (
    EVERYWHERE,
    LISTEN_VARIABLE,
    LOOPBACK,
    MLFLOW_PASSWORD_VARIABLE,
    MLFLOW_USER_VARIABLE,
    PREFECT_AUTH_VARIABLE,
    Address,
    ServerSettings,
)

ANSWER_SECONDS = 30.0
PASSWORD_CHARACTERS = 12  # MLflow's own least


def demand_passwords(settings: ServerSettings) -> None:
    """Do nothing if the servers of this machine listen on loopback only, or have passwords.

    Raises:
        ConfigurationError: they would listen elsewhere for everyone, or a password is too short for MLflow.
    """
    wanted: dict[str, object] = {}
    if settings.prefect.is_ours:
        wanted[PREFECT_AUTH_VARIABLE] = settings.prefect_auth
    if settings.mlflow.is_ours:
        wanted |= {MLFLOW_USER_VARIABLE: settings.mlflow_user, MLFLOW_PASSWORD_VARIABLE: settings.mlflow_password}
    missing = [name for name, value in wanted.items() if not value]
    if missing and settings.listen not in LOOPBACK:
        raise ConfigurationError(
            f"The setting {LISTEN_VARIABLE} is {settings.listen}, where other machines may come, without a value of "
            f"{' and '.join(missing)}: set what is missing, or leave {LISTEN_VARIABLE} out to listen on 127.0.0.1."
        )
    if (auth := mlflow_auth(settings)) and len(auth[1]) < PASSWORD_CHARACTERS:
        raise ConfigurationError(
            f"The setting {MLFLOW_PASSWORD_VARIABLE} is too short for MLflow's server; "
            f"expected a password of at least {PASSWORD_CHARACTERS} characters."
        )


def mlflow_auth(settings: ServerSettings) -> tuple[str, str] | None:
    """Return the user and password that this machine's MLflow server asks for, None where it lets everyone in."""
    if settings.mlflow.is_ours and settings.mlflow_user and settings.mlflow_password:
        return settings.mlflow_user, settings.mlflow_password.get_secret_value()
    return None


def users_folder(settings: ServerSettings) -> Path:
    """Return where MLflow keeps its users; only this machine's user may open it."""
    return settings.root / "access"


def prefect_headers(settings: ServerSettings) -> dict[str, str]:
    """Return the headers with which Prefect's API lets a client in."""
    if settings.prefect_auth is None:
        return {}
    token = base64.b64encode(settings.prefect_auth.get_secret_value().encode()).decode()
    return {"Authorization": f"Basic {token}"}


def prefect_api(settings: ServerSettings) -> PrefectHttpxSyncClient:
    """Return a client of Prefect's API that tries again when the server is busy, as its SQLite is while workers begin.

    It raises an httpx.HTTPError for every answer that is no success.
    """
    return PrefectHttpxSyncClient(
        base_url=settings.prefect.url, headers=prefect_headers(settings), timeout=ANSWER_SECONDS
    )


def with_access(environment: Mapping[str, str], settings: ServerSettings) -> dict[str, str]:
    """Return an environment with what servers are told besides: whom to let in, and pages of which hosts may ask them.

    MLflow makes its user at its first start, and keeps it.
    """
    defaults = {"PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(_origins(settings.prefect))}
    if settings.listen not in LOOPBACK:
        defaults["MLFLOW_SERVER_ALLOWED_HOSTS"] = ",".join(_hosts(settings.mlflow))
        defaults["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] = ",".join(_origins(settings.mlflow))
    if settings.listen in EVERYWHERE:
        defaults["PREFECT_UI_API_URL"] = "/api"  # of whichever address the browser came to
    settled = {}
    if settings.prefect_auth:
        settled["PREFECT_SERVER_API_AUTH_STRING"] = settings.prefect_auth.get_secret_value()
    if auth := mlflow_auth(settings):
        defaults["MLFLOW_AUTH_CONFIG_PATH"] = str(_users_configuration(users_folder(settings)))
        defaults["MLFLOW_FLASK_SERVER_SECRET_KEY"] = secrets.token_hex(32)  # signs forms, until the next start
        settled["MLFLOW_AUTH_ADMIN_USERNAME"], settled["MLFLOW_AUTH_ADMIN_PASSWORD"] = auth
    return {**defaults, **environment, **settled}


def _users_configuration(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = ConfigParser(interpolation=None)
    database = f"sqlite:///{folder / 'mlflow.db'}".replace("%", "%%")  # MLflow reads it with interpolation
    config["mlflow"] = {"default_permission": "READ", "database_uri": database}
    path = folder / "mlflow.ini"
    with path.open("w") as file:
        config.write(file)
    return path


def _origins(address: Address) -> list[str]:
    return [f"http://{host}" for host in _hosts(address)]


def _hosts(address: Address) -> list[str]:
    """Return by which HOST:PORT a browser may come to a server of this machine."""
    hosts = {*LOOPBACK, address.host}
    if address.bind_host in EVERYWHERE:
        hosts.add(platform.node())
        for found in psutil.net_if_addrs().values():
            hosts |= {each.address for each in found if each.family in (socket.AF_INET, socket.AF_INET6)}
    return [f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}" for host in sorted(hosts)]
