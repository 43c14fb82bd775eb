"""The environment, read in one place: where everything is written and which servers are used."""

import os
import sys
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from dcgan.errors import ConfigurationError

CHECKOUT = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """The addresses and folders of this process; everything that is written lies under `root`."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True, env_ignore_empty=True)

    state: Path = Field(default=CHECKOUT / ".state", validation_alias="DCGAN_STATE")
    mlflow_uri: str | None = Field(default=None, validation_alias="MLFLOW_TRACKING_URI")
    netrc: Path = Field(default=Path("~/.netrc"), validation_alias="NETRC")  # the passwords of http:// sources

    @property
    def root(self) -> Path:
        """The absolute state folder."""
        return self.state.expanduser().absolute()

    @property
    def downloads(self) -> Path:
        """Folder of the downloaded IDX files, with a folder for each source."""
        return self.root / "data" / "downloads"

    @property
    def prepared(self) -> Path:
        """Folder of the prepared data sets, with a folder for each dataset digest."""
        return self.root / "data" / "prepared"

    @property
    def classifiers(self) -> Path:
        """Folder of the classifiers of data sets other than MNIST, with a folder for each dataset digest."""
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
    def tracking_uri(self) -> str:
        """Address of the MLflow store: the environment's, else the SQLite file under the state folder."""
        return self.mlflow_uri or f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def artifact_root(self) -> Path:
        """Folder of MLflow's artifacts when its store is the SQLite file."""
        return self.root / "mlartifacts"


def read_settings() -> Settings:
    """Return the settings that the environment gives.

    Raises:
        ConfigurationError: An environment variable is unusable.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigurationError(f"The setting {first['loc'][0]} is unusable: {first['msg']}.") from None


def set_default_environment() -> None:
    """Set defaults for Prefect, MLflow and TensorFlow where the environment has no value of its own.

    They read their environment once, when they are imported, so this comes first. Prefect makes its own folder then,
    but not the one above it.

    Raises:
        SystemExit: The state folder cannot be created; no command can begin, and there is no caller to catch an error.
    """
    root = read_settings().root
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f"error: The setting DCGAN_STATE is {root}, which cannot be created: {error.strerror}.")
    defaults = {
        "PREFECT_HOME": str(root / "prefect"),
        "PREFECT_LOGGING_EXTRA_LOGGERS": "dcgan",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # the library also logs outside a flow run
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "MPLCONFIGDIR": str(root / "matplotlib"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK": "true",  # it would ask a package index
        # a training run does not wait for an MLflow server: what it misses is recorded later
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        "TF_CPP_MIN_LOG_LEVEL": "3",  # its errors reach Python as exceptions; on a CPU, a missing GPU is one of these
        "TF_ENABLE_ONEDNN_OPTS": "1",  # off by default on AMD, where it takes a third off a direct step
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
