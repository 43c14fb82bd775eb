"""Which servers are meant: the addresses that clients use, and whether they are this machine's to start."""

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from dcgan.errors import ConfigurationError
from tasks.settings import Settings
from tasks.sources import mask_credentials

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - recognised here, chosen by nobody but the user
PREFECT_VARIABLE = "PREFECT_API_URL"
MLFLOW_VARIABLE = "MLFLOW_TRACKING_URI"
LISTEN_VARIABLE = "DCGAN_LISTEN"
PREFECT_AUTH_VARIABLE = "PREFECT_API_AUTH_STRING"
MLFLOW_USER_VARIABLE = "MLFLOW_TRACKING_USERNAME"
MLFLOW_PASSWORD_VARIABLE = "MLFLOW_TRACKING_PASSWORD"  # noqa: S105 - its name


@dataclass(frozen=True)
class Address:
    """The URL of a server, without a slash at its end, the environment variable that sets it, and DCGAN_LISTEN."""

    url: str
    variable: str
    listen: str = LOOPBACK[0]

    @property
    def host(self) -> str:
        """The host's name or IP address."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The TCP port, the scheme's own where the URL names none."""
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def is_ours(self) -> bool:
        """Whether the server belongs on this machine, so that `make ui` starts it."""
        return self.host in (*LOOPBACK, self.listen) and self.url.startswith("http:")

    @property
    def bind_host(self) -> str:
        """Where the server listens: at the URL's own host, or at every address of this machine."""
        return self.listen if self.listen in EVERYWHERE else self.host

    def demand_free_port(self) -> None:
        """Do nothing if the port can be listened on.

        Raises:
            ConfigurationError: another program holds the port.
        """
        host = self.bind_host
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, self.port))
            except OSError as error:
                raise ConfigurationError(
                    f"Port {self.port} of {host} cannot be used ({error.strerror}): stop what holds it, "
                    f"or set {self.variable} to an address with another port."
                ) from None


class ServerSettings(Settings):
    """The settings of this process, and where Prefect's and MLflow's servers are."""

    prefect_api: str | None = Field(default=None, validation_alias=PREFECT_VARIABLE)
    listen_at: str = Field(default=LOOPBACK[0], validation_alias=LISTEN_VARIABLE)
    prefect_auth: SecretStr | None = Field(default=None, validation_alias=PREFECT_AUTH_VARIABLE)
    mlflow_user: str | None = Field(default=None, validation_alias=MLFLOW_USER_VARIABLE)
    mlflow_password: SecretStr | None = Field(default=None, validation_alias=MLFLOW_PASSWORD_VARIABLE)

    @property
    def listen(self) -> str:
        """The IP address at which the servers of this machine listen."""
        try:
            return str(ipaddress.ip_address("127.0.0.1" if self.listen_at == "localhost" else self.listen_at))
        except ValueError:
            raise ConfigurationError(
                f"The setting {LISTEN_VARIABLE} is {self.listen_at!r}; expected an IP address of this machine, "
                "or 0.0.0.0 for all of them."
            ) from None

    @property
    def prefect(self) -> Address:
        """Prefect's API: PREFECT_API_URL, else port 4200 of this machine."""
        return self._address(self.prefect_api or f"{self._this_machine}:4200/api", PREFECT_VARIABLE)

    @property
    def mlflow(self) -> Address:
        """MLflow's server: MLFLOW_TRACKING_URI where that is a URL, else port 5000 of this machine."""
        uri = self.mlflow_uri if self._has_mlflow_server else None
        return self._address(uri or f"{self._this_machine}:5000", MLFLOW_VARIABLE)

    @property
    def store(self) -> str:
        """What MLflow's server serves: MLFLOW_TRACKING_URI where that is a database, else the state folder's SQLite."""
        served = self.model_copy(update={"mlflow_uri": None}) if self._has_mlflow_server else self
        return served.tracking_uri

    @property
    def logs(self) -> Path:
        """Where servers and workers write what they have to say."""
        return self.root / "logs"

    @property
    def _has_mlflow_server(self) -> bool:
        return (self.mlflow_uri or "").startswith(("http://", "https://"))

    @property
    def _this_machine(self) -> str:
        host = LOOPBACK[0] if self.listen in EVERYWHERE else self.listen
        return f"http://[{host}]" if ":" in host else f"http://{host}"

    def _address(self, url: str, variable: str) -> Address:
        parts = urlsplit(url)
        try:
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # a port that is not a number up to 65535
            usable = False
        if not usable:
            raise ConfigurationError(
                f"The setting {variable} is {mask_credentials(url)!r}; expected an address like http://HOST:PORT."
            )
        return Address(url.rstrip("/"), variable, self.listen)
