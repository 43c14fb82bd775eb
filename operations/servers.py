"""Prefect's and MLflow's servers: their addresses, passwords, command lines, environments and readiness.

Passwords are passed in the environment, because every user of the machine can read a command line.
"""

import ipaddress
import os
import platform
import secrets
import socket
import sys
from configparser import ConfigParser
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from textwrap import shorten
from urllib.parse import urlsplit

import httpx
import psutil
from prefect.client.orchestration import SyncPrefectClient
from pydantic import Field, SecretStr

from dcgan.errors import ConfigurationError, mask_credentials
from tasks.settings import CHECKOUT, Settings
from tracking.artifact_addresses import are_in_folder

LOOPBACK = ("127.0.0.1", "localhost", "::1")
ALL_INTERFACES = ("0.0.0.0", "::")  # noqa: S104 - recognised here, chosen by nobody but the user
POOLS = ("gpu", "cpu")
DOCKER_POOL = "gpu-docker"
PROBE_SECONDS = 2.0
LOGIN_SECONDS = 30.0  # the first request that needs MLflow's database takes longer
MLFLOW_PASSWORD_LENGTH = 12  # MLflow's own minimum


@dataclass(frozen=True)
class Address:
    """Address of a server.

    Args:
        url: The URL, without a slash at its end.
        variable: The environment variable that sets it.
        listen: The IP address at which the servers of this machine listen.
    """

    url: str
    variable: str
    listen: str = LOOPBACK[0]

    @property
    def host(self) -> str:
        """The host's name or IP address."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The TCP port, by default that of the scheme."""
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def is_local(self) -> bool:
        """Whether the server belongs to this machine, so that `make ui` starts it."""
        return self.host in (*LOOPBACK, self.listen) and self.url.startswith("http:")

    @property
    def bind_host(self) -> str:
        """The IP address to bind: the URL's own host, or all interfaces where `listen` says so."""
        return self.listen if self.listen in ALL_INTERFACES else self.host

    @property
    def browser_hosts(self) -> list[str]:
        """Every HOST:PORT by which a browser may reach a server of this machine."""
        hosts = {*LOOPBACK, self.host}
        if self.bind_host not in LOOPBACK:
            name = platform.node().lower()
            short_name = name.partition(".")[0]
            hosts |= {name, short_name, f"{short_name}.local"}
        if self.bind_host in ALL_INTERFACES:
            for interface in psutil.net_if_addrs().values():
                hosts |= {each.address for each in interface if each.family in (socket.AF_INET, socket.AF_INET6)}
        return [f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}" for host in sorted(hosts)]

    @property
    def browser_origins(self) -> list[str]:
        """The origins of pages that these hosts serve."""
        return [f"http://{host}" for host in self.browser_hosts]

    def answers(self) -> bool:
        """Return whether the server reports that it is healthy."""
        try:
            return httpx.get(f"{self.url}/health", timeout=PROBE_SECONDS, follow_redirects=True).is_success
        except httpx.HTTPError:
            return False

    def require_free_port(self) -> None:
        """Check that the server could bind its port.

        Raises:
            ConfigurationError: Another program uses the port.
        """
        host = self.bind_host
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, self.port))
            except OSError as error:
                user = _listener_at(host, self.port) or "the program that uses it"
                raise ConfigurationError(
                    f"Port {self.port} of {host} cannot be used ({error.strerror}): stop {user}, or name "
                    f"another port in {self.variable}."
                ) from None


def _listener_at(host: str, port: int) -> str | None:
    """Return the process of this user that listens there, as far as the operating system tells."""
    places = [(each, port) for each in (host, *ALL_INTERFACES)]
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and tuple(connection.laddr) in places and connection.pid:
                command = " ".join(psutil.Process(connection.pid).cmdline())
                return f"the process {connection.pid} ({shorten(mask_credentials(command), 100, placeholder=' …')})"
    return None


class ServerSettings(Settings):
    """The settings of this process, and those of Prefect's and MLflow's servers.

    `worker_environment`, `server_environment` and `operations.env` build the environments of other processes. The
    passwords are the variables that Prefect's and MLflow's own clients read.
    """

    prefect_api: str | None = Field(default=None, validation_alias="PREFECT_API_URL")
    listen_at: str = Field(default=LOOPBACK[0], validation_alias="DCGAN_LISTEN")
    serve_artifacts: bool = Field(default=False, validation_alias="DCGAN_SERVE_ARTIFACTS")
    prefect_auth: SecretStr | None = Field(default=None, validation_alias="PREFECT_API_AUTH_STRING")
    mlflow_user: str | None = Field(default=None, validation_alias="MLFLOW_TRACKING_USERNAME")
    mlflow_password: SecretStr | None = Field(default=None, validation_alias="MLFLOW_TRACKING_PASSWORD")

    @property
    def listen(self) -> str:
        """The IP address at which the servers of this machine listen."""
        try:
            return str(ipaddress.ip_address(LOOPBACK[0] if self.listen_at == "localhost" else self.listen_at))
        except ValueError:
            raise ConfigurationError(
                f"The setting DCGAN_LISTEN is {self.listen_at!r}; expected an IP address of this machine, "
                "or 0.0.0.0 for all of them."
            ) from None

    @property
    def serves_artifacts(self) -> bool:
        """Whether MLflow's server of this machine serves the artifacts, as clients elsewhere need it to."""
        return self.serve_artifacts or self.listen not in LOOPBACK

    @property
    def prefect(self) -> Address:
        """The address of Prefect's API: PREFECT_API_URL, or port 4200 of this machine."""
        return self._address(self.prefect_api or f"{local_url(self.listen, 4200)}/api", "PREFECT_API_URL")

    @property
    def mlflow(self) -> Address:
        """The address of MLflow's server: MLFLOW_TRACKING_URI if that is a URL, or port 5000 of this machine."""
        uri = self.mlflow_uri if self._names_mlflow_server else None
        return self._address(uri or local_url(self.listen, 5000), "MLFLOW_TRACKING_URI")

    @property
    def mlflow_database(self) -> str:
        """The database behind MLflow's server: MLFLOW_TRACKING_URI if that is one, or SQLite in the state folder."""
        served = self.model_copy(update={"mlflow_uri": None}) if self._names_mlflow_server else self
        return served.tracking_uri

    @property
    def mlflow_auth(self) -> tuple[str, str] | None:
        """The user and password that this machine's MLflow server asks for, None if it asks for none."""
        if self.mlflow.is_local and self.mlflow_user and self.mlflow_password:
            return self.mlflow_user, self.mlflow_password.get_secret_value()
        return None

    @property
    def mlflow_users(self) -> Path:
        """The folder of MLflow's users, which only the user who runs the server may open."""
        return self.root / "access"

    @property
    def logs(self) -> Path:
        """The folder of the servers' and workers' logs."""
        return self.root / "logs"

    @property
    def _names_mlflow_server(self) -> bool:
        return (self.mlflow_uri or "").startswith(("http://", "https://"))

    def _address(self, url: str, variable: str) -> Address:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # such as a port that is not a number up to 65535
            usable = False
        if not usable:
            raise ConfigurationError(
                f"The setting {variable} is {mask_credentials(url)!r}; expected an address like http://HOST:PORT."
            )
        address = Address(url.rstrip("/"), variable, self.listen)
        if variable == "PREFECT_API_URL" and address.is_local and parts.path.rstrip("/") != "/api":
            raise ConfigurationError(
                f"The setting {variable} is {mask_credentials(url)!r}; expected the address of the API, as "
                f"{parts.scheme}://HOST:PORT/api."
            )
        return address


def local_url(listen: str, port: int) -> str:
    """Return the URL by which clients of this machine reach a server that listens there."""
    # a server that listens at :: answers IPv6 only
    host = {"0.0.0.0": LOOPBACK[0], "::": LOOPBACK[2]}.get(listen, listen)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def require_passwords(settings: ServerSettings) -> None:
    """Check that servers that other machines can reach have passwords.

    Raises:
        ConfigurationError: A server would listen beyond loopback without a password, or a password is too short.
    """
    required: dict[str, object] = {}
    if settings.prefect.is_local:
        required["PREFECT_API_AUTH_STRING"] = settings.prefect_auth
    if settings.mlflow.is_local:
        required["MLFLOW_TRACKING_USERNAME"] = settings.mlflow_user
        required["MLFLOW_TRACKING_PASSWORD"] = settings.mlflow_password
    missing = [name for name, value in required.items() if not value]
    if missing and settings.listen not in LOOPBACK:
        raise ConfigurationError(
            f"The setting DCGAN_LISTEN is {settings.listen}, which other machines may reach, without a value of "
            f"{' and '.join(missing)}: set what is missing, or leave DCGAN_LISTEN out to listen on 127.0.0.1."
        )
    if (auth := settings.mlflow_auth) and len(auth[1]) < MLFLOW_PASSWORD_LENGTH:
        raise ConfigurationError(
            "The setting MLFLOW_TRACKING_PASSWORD is too short for MLflow's server; "
            f"expected a password of at least {MLFLOW_PASSWORD_LENGTH} characters."
        )


def require_reachable_artifacts(settings: ServerSettings) -> None:
    """Check that clients on other machines can read the artifacts that MLflow's server of this machine lists.

    Raises:
        ConfigurationError: The database addresses them in a folder of this machine.
        TrackingError: The database cannot be read.
    """
    if not (settings.mlflow.is_local and settings.serves_artifacts):
        return
    database = settings.mlflow_database
    if are_in_folder(database, settings.artifact_root):
        raise ConfigurationError(
            f"MLflow's database {mask_credentials(database)} addresses artifacts in {settings.artifact_root}, where "
            "clients on other machines cannot read them: run 'dcgan serve-artifacts' once, which puts them behind the "
            "server."
        )


def prefect_command(settings: ServerSettings) -> list[str]:
    """Return the command line of Prefect's server; its database is in PREFECT_HOME."""
    address = settings.prefect
    return _module("operations.serve_prefect", "--host", address.bind_host, "--port", str(address.port))


def mlflow_command(settings: ServerSettings) -> list[str]:
    """Return the command line of MLflow's server, over the same artifacts as training runs without a server.

    New experiments keep their artifacts at plain paths, so that runs with and without a server share them, or behind
    the server where clients on other machines use it.
    """
    address, artifacts = settings.mlflow, settings.artifact_root.as_uri()
    return [
        *_module("mlflow", "server", "--host", address.bind_host, "--port", str(address.port), "--workers", "1"),
        *("--artifacts-destination", artifacts),
        *(() if settings.serves_artifacts else ("--default-artifact-root", artifacts)),
        *(("--app-name", "basic-auth") if settings.mlflow_auth else ()),
    ]


def worker_command(pool: str, name: str) -> list[str]:
    """Return the command line of a worker of a pool."""
    return _module("operations.worker", "--pool", pool, "--name", name)


def worker_environment(settings: ServerSettings) -> dict[str, str]:
    """Return the environment of workers, which flow runs inherit."""
    defaults = {
        "DCGAN_HOME": str(CHECKOUT),  # the working directory that prefect.yaml's pull step sets
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_SERVER_UI_V2_ENABLED": "false",  # its pages try to contact Amplitude, analytics on or off
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONUNBUFFERED": "1",
    }
    overrides = {
        "DCGAN_STATE": str(settings.root),
        "PREFECT_API_URL": settings.prefect.url,
        "MLFLOW_TRACKING_URI": settings.mlflow.url,
    }
    return {**defaults, **os.environ, **overrides}


def client_environment(settings: ServerSettings) -> dict[str, str]:
    """Return MLflow's address and passwords and the database of sweeps, for flow runs that inherit no environment."""
    given = {
        "MLFLOW_TRACKING_USERNAME": settings.mlflow_user,
        "MLFLOW_TRACKING_PASSWORD": settings.mlflow_password and settings.mlflow_password.get_secret_value(),
        "DCGAN_SWEEPS_URI": settings.sweeps_uri,
    }
    return {"MLFLOW_TRACKING_URI": settings.mlflow.url, **{name: value for name, value in given.items() if value}}


def server_environment(settings: ServerSettings) -> dict[str, str]:
    """Return the environment of servers: the workers', MLflow's database, and who may use the servers.

    MLflow creates its user at its first start and keeps it.
    """
    defaults = {
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(settings.prefect.browser_origins),
        "PREFECT_UI_API_URL": urlsplit(settings.prefect.url).path,  # at whichever address the browser has opened
        "PREFECT_SERVER_LOGS_STREAM_OUT_ENABLED": "true",  # else `--watch` shows events only
        "PREFECT_SERVER_LOGS_STREAM_PUBLISHING_ENABLED": "true",
    }
    overrides = {"MLFLOW_BACKEND_STORE_URI": settings.mlflow_database}  # its URL may contain a password
    if settings.listen not in LOOPBACK:
        defaults["MLFLOW_SERVER_ALLOWED_HOSTS"] = ",".join(settings.mlflow.browser_hosts)
        defaults["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] = ",".join(settings.mlflow.browser_origins)
    if settings.prefect_auth:
        overrides["PREFECT_SERVER_API_AUTH_STRING"] = settings.prefect_auth.get_secret_value()
    if auth := settings.mlflow_auth:
        defaults["MLFLOW_AUTH_CONFIG_PATH"] = str(_write_mlflow_users_config(settings.mlflow_users))
        defaults["MLFLOW_FLASK_SERVER_SECRET_KEY"] = secrets.token_hex(32)  # signs forms until the next start
        overrides["MLFLOW_AUTH_ADMIN_USERNAME"], overrides["MLFLOW_AUTH_ADMIN_PASSWORD"] = auth
    return {**defaults, **worker_environment(settings), **overrides}


def prefect_client(settings: ServerSettings) -> SyncPrefectClient:
    """Return a client of Prefect's API, which retries while the server is busy."""
    auth = settings.prefect_auth
    return SyncPrefectClient(settings.prefect.url, auth_string=auth.get_secret_value() if auth else None)


def worker_is_online(settings: ServerSettings, pool: str, name: str, since: datetime) -> bool:
    """Return whether a worker has sent Prefect's server a heartbeat after `since`."""
    try:
        with prefect_client(settings) as client:
            workers = client.read_workers_for_work_pool(pool)
    except httpx.HTTPError:
        return False
    heartbeats = [worker.last_heartbeat_time for worker in workers if worker.name == name]
    return any(heartbeat.astimezone(UTC) > since for heartbeat in heartbeats if heartbeat)


def require_mlflow_login(settings: ServerSettings) -> None:
    """Check that MLflow's server, if it asks for a password, accepts that of the settings.

    Raises:
        ConfigurationError: The server has stored another password, or does not answer.
    """
    address = settings.mlflow
    if auth := settings.mlflow_auth:
        url = f"{address.url}/api/2.0/mlflow/experiments/search?max_results=1"
        try:
            status = httpx.get(url, auth=auth, timeout=LOGIN_SECONDS).status_code
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise ConfigurationError(
                f"MLflow's server at {address.url} does not answer to a login ({reason}); its log says why."
            ) from None
        if status == httpx.codes.UNAUTHORIZED:
            raise ConfigurationError(
                f"MLflow's server at {address.url} refuses MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; "
                f"expected those of its first start, which it keeps in {settings.mlflow_users}."
            )


def _write_mlflow_users_config(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = ConfigParser(interpolation=None)
    # a right password is remembered for a minute: hashing it for each request takes most of the request's time
    config["mlflow"] = {
        "default_permission": "READ",
        "database_uri": f"sqlite:///{folder / 'mlflow.db'}",
        "auth_cache_ttl_seconds": "60",
    }
    path = folder / "mlflow.ini"
    with path.open("w", encoding="utf-8") as file:
        config.write(file)
    return path


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, *arguments]
