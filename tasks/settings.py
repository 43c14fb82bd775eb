"""The environment, read in one place: where everything is written and which servers are used."""

import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote
from urllib.request import getproxies_environment

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from dcgan.errors import ConfigurationError
from dcgan.files import expanded

CHECKOUT = Path(__file__).resolve().parent.parent
# SQLAlchemy has no way to write them in the path of an SQLite database, and MLflow takes them for parts of an address
UNUSABLE_IN_PATHS = re.compile(r"[?#%\x00-\x1f\x7f]")


class Settings(BaseSettings):
    """The addresses and folders of this process; everything that is written lies under `root`."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_ignore_empty=True, case_sensitive=True)

    state: Path = Field(default=CHECKOUT / ".state", validation_alias="DCGAN_STATE")
    mlflow_uri: str | None = Field(default=None, validation_alias="MLFLOW_TRACKING_URI")
    sweeps_uri: str | None = Field(default=None, validation_alias="DCGAN_SWEEPS_URI")
    # None keeps all
    keep_checkpoints: int | None = Field(default=1, validation_alias="DCGAN_KEEP_CHECKPOINTS")
    netrc: Path = Field(default=Path("~/.netrc"), validation_alias="NETRC")  # the passwords of http:// sources

    @field_validator("state")
    @classmethod
    def _require_usable_path(cls, state: Path) -> Path:
        try:
            root = expanded(state)
        except ConfigurationError as error:
            raise ValueError(str(error).rstrip(".")) from None
        if found := UNUSABLE_IN_PATHS.search(str(root)):
            raise ValueError(
                f"{str(root)!r} contains {found[0]!r}; expected a path without ?, #, % and control characters"
            )
        return state

    @field_validator("mlflow_uri")
    @classmethod
    def _with_lower_case_scheme(cls, uri: str | None) -> str | None:
        return re.sub(r"^[^:]+:", lambda scheme: scheme[0].lower(), uri) if uri else uri

    @field_validator("keep_checkpoints", mode="before")
    @classmethod
    def _require_number_or_all(cls, value: object) -> int | None:
        if value is None or value == "all":
            return None
        if not str(value).isdecimal() or int(str(value)) < 1:
            raise ValueError(f"{value!r} is not a number of checkpoints; expected one from 1, or all")
        return int(str(value))

    @classmethod
    def read(cls) -> Self:
        """Return the settings that the environment gives.

        Raises:
            ConfigurationError: An environment variable is unusable.
        """
        try:
            return cls()
        except ValidationError as error:
            first = error.errors()[0]
            reason = first.get("ctx", {}).get("error", first["msg"])
            raise ConfigurationError(f"The setting {first['loc'][0]} is unusable: {reason}.") from None

    @property
    def root(self) -> Path:
        """The absolute state folder."""
        return expanded(self.state)

    @property
    def downloads(self) -> Path:
        """Folder of the downloaded IDX files, with a folder for each source."""
        return self.root / "data" / "downloads"

    @property
    def prepared(self) -> Path:
        """Folder of the prepared datasets, with a folder for each dataset digest."""
        return self.root / "data" / "prepared"

    @property
    def classifiers(self) -> Path:
        """Folder of the classifiers of datasets other than MNIST and their like, a folder for each dataset digest."""
        return self.root / "data" / "classifiers"

    @property
    def runs(self) -> Path:
        """Folder of the states of training runs, with a folder for each MLflow run."""
        return self.root / "runs"

    @property
    def generated(self) -> Path:
        """Folder of generated images for which no other place is named."""
        return self.root / "generated"

    @property
    def comparisons(self) -> Path:
        """Folder of comparisons of runs for which no other place is named."""
        return self.root / "comparisons"

    @property
    def tracking_uri(self) -> str:
        """Address of the MLflow store: the environment's, else the SQLite file under the state folder."""
        return self.mlflow_uri or f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def sweeps(self) -> Path:
        """Folder of the sweeps' database and locks."""
        return self.root / "sweeps"

    @property
    def sweeps_storage(self) -> str:
        """Address of the sweeps' database: the environment's, else an SQLite file under the state folder.

        It cannot be MLflow's own database: Optuna and MLflow both keep the number of their schema in a table called
        alembic_version.
        """
        return self.sweeps_uri or f"sqlite:///{self.sweeps / 'optuna.db'}"

    @property
    def artifact_root(self) -> Path:
        """Folder of MLflow's artifacts when its store is the SQLite file."""
        return self.root / "mlartifacts"


def set_default_environment() -> None:
    """Set defaults for Prefect, MLflow and TensorFlow where the environment has no value of its own.

    They read their environment once, when they are imported, so this comes first. Prefect makes its own folder then,
    but not the one above it.

    Raises:
        SystemExit: The state folder cannot be used; no command can begin, and there is no caller to catch an error.
    """
    try:
        root = Settings.read().root
    except ConfigurationError as error:
        sys.exit(f"error: {error}")
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        sys.exit(f"error: The setting DCGAN_STATE is {root}, which cannot be created: {error.strerror}.")
    if not os.access(root, os.W_OK | os.X_OK):
        sys.exit(f"error: The setting DCGAN_STATE is {root}, which cannot be written; expected a folder of this user.")
    _move_credentials()
    defaults = {
        "PREFECT_HOME": str(root / "prefect"),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # automations.yaml relies on it
        "PREFECT_LOGGING_EXTRA_LOGGERS": "dcgan",
        "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",  # of a worker's health check, else it listens everywhere
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # the library also logs outside a flow run
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "MPLCONFIGDIR": str(root / "matplotlib"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # with the password that the address may have
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # Optuna brings tqdm, with which MLflow draws one per download
        "MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK": "true",  # it would ask a package index
        # a training run does not wait for an MLflow server: what it misses is recorded later
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        # artifacts come from MLflow's server, also where it keeps them in a bucket: a worker may not reach that
        "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
        "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
        "TF_CPP_MIN_LOG_LEVEL": "3",  # its errors reach Python as exceptions; on a CPU, a missing GPU is one of these
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # else the first process takes the whole GPU, and others find none left
        "TF_ENABLE_ONEDNN_OPTS": "1",  # off by default on some processors, where it takes a third off a direct step
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    _bypass_proxy_on_loopback()


def interrupt_without_traceback() -> None:
    """Let Ctrl-C end a program without a traceback also while its libraries are imported, which takes seconds.

    The program ends by the signal, which a shell shows as exit code 130.
    """
    others = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        # an interrupt in the middle of pydantic becomes an error of pydantic's that names it
        if not issubclass(kind, KeyboardInterrupt) and KeyboardInterrupt.__name__ not in str(error):
            others(kind, error, trace)
            return
        sys.stderr.write("Interrupted.\n")
        sys.stderr.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)

    sys.excepthook = show


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Discard what libraries write to standard error while the body imports them.

    TensorFlow's C++ libraries write lines before its log level applies. An import that fails raises as usual.
    """
    sys.stderr.flush()
    original = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(original, 2)
            os.close(original)


def _bypass_proxy_on_loopback() -> None:
    """Exempt this machine from a proxy that the environment names: it would look for our servers on its own machine."""
    named = getproxies_environment()
    exempt = [host.strip() for host in named.pop("no", "").split(",") if host.strip()]
    if named and "*" not in exempt:
        exempt += [host for host in ("127.0.0.1", "localhost", "::1") if host not in exempt]
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(exempt)


def _move_credentials() -> None:
    """Move user and password out of MLflow's and Prefect's addresses, which are shown and stored, to where they belong.

    MLflow reads them from variables of their own, and so does Prefect. A database's stay: it knows no other place.
    """
    for address, write in (
        ("MLFLOW_TRACKING_URI", _set_mlflow_login),
        (
            "PREFECT_API_URL",
            lambda user, password: os.environ.setdefault("PREFECT_API_AUTH_STRING", f"{user}:{password}"),
        ),
    ):
        uri = os.environ.get(address, "")
        if re.match(r"https?://[^/?#]*@", uri, re.IGNORECASE):
            login, _, place = uri.partition("://")[2].partition("/")[0].rpartition("@")
            user, _, password = login.partition(":")
            write(unquote(user), unquote(password))
            os.environ[address] = uri.replace(f"{login}@{place}", place, 1)


def _set_mlflow_login(user: str, password: str) -> None:
    os.environ.setdefault("MLFLOW_TRACKING_USERNAME", user)
    os.environ.setdefault("MLFLOW_TRACKING_PASSWORD", password)
