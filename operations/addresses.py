"""Which servers are meant: the addresses that clients use, and whether they are this machine's to start."""

import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field

from dcgan.errors import ConfigurationError
from tasks.settings import Settings
from tasks.sources import mask_credentials

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PREFECT_VARIABLE = "PREFECT_API_URL"
MLFLOW_VARIABLE = "MLFLOW_TRACKING_URI"


@dataclass(frozen=True)
class Address:
    """The URL of a server, without a slash at its end, and the environment variable that sets it."""

    url: str
    variable: str

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
        return self.host in LOOPBACK and self.url.startswith("http:")

    def demand_free_port(self) -> None:
        """Do nothing if the port can be listened on.

        Raises:
            ConfigurationError: another program holds the port.
        """
        with socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, self.port))
            except OSError as error:
                raise ConfigurationError(
                    f"Port {self.port} of {self.host} cannot be used ({error.strerror}): stop what holds it, "
                    f"or set {self.variable} to an address with another port."
                ) from None


class ServerSettings(Settings):
    """The settings of this process, and where Prefect's and MLflow's servers are."""

    prefect_api: str = Field(default="http://127.0.0.1:4200/api", validation_alias=PREFECT_VARIABLE)

    @property
    def prefect(self) -> Address:
        """Prefect's API: PREFECT_API_URL, else port 4200 of this machine."""
        return _checked(self.prefect_api, PREFECT_VARIABLE)

    @property
    def mlflow(self) -> Address:
        """MLflow's server: MLFLOW_TRACKING_URI where that is a URL, else port 5000 of this machine."""
        uri = self.mlflow_uri or ""
        return _checked(uri if self._has_mlflow_server else "http://127.0.0.1:5000", MLFLOW_VARIABLE)

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


def _checked(url: str, variable: str) -> Address:
    parts = urlsplit(url)
    try:
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is not a number up to 65535
        usable = False
    if not usable:
        raise ConfigurationError(
            f"The setting {variable} is {mask_credentials(url)!r}; expected an address like http://HOST:PORT."
        )
    return Address(url.rstrip("/"), variable)
