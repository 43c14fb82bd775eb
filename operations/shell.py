"""`make env`: the lines that let a shell's own `prefect` and `mlflow` talk to the servers of `make ui`."""

import os
import shlex
import sys
from pathlib import Path

from operations import programs
from operations.addresses import ServerSettings

NAMES = (
    "PREFECT_API_URL",
    "MLFLOW_TRACKING_URI",
    "DCGAN_STATE",
    "DCGAN_HOME",
    "PREFECT_HOME",
    "PREFECT_LOGGING_EXTRA_LOGGERS",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY",
    "DO_NOT_TRACK",
)


def exports(settings: ServerSettings) -> list[str]:
    """Return the lines for `eval`: the servers' environment, and the programs of .venv first on the path."""
    environment = programs.environment(settings)
    values = {name: environment[name] for name in NAMES}
    values["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return [f"export {name}={shlex.quote(value)}" for name, value in values.items()]


if __name__ == "__main__":
    sys.stdout.write("\n".join(exports(ServerSettings())) + "\n")
