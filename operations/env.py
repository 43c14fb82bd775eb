"""`make env`: print the lines that let a shell's own `prefect` and `mlflow` use the servers of `make ui`."""

import os
import shlex
import sys
from argparse import ArgumentParser
from pathlib import Path

from operations.command import print_line, run_operation
from operations.servers import ServerSettings, worker_environment

NAMES = (
    "PREFECT_API_URL",
    "MLFLOW_TRACKING_URI",
    "DCGAN_STATE",
    "DCGAN_HOME",
    "PREFECT_HOME",
    "PREFECT_LOGGING_EXTRA_LOGGERS",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY",
    "DO_NOT_TRACK",
    "PREFECT_SERVER_ANALYTICS_ENABLED",
    "MLFLOW_DISABLE_TELEMETRY",
)


def exports(settings: ServerSettings) -> list[str]:
    """Return the lines for `eval`: the workers' environment without passwords, and this Python's programs first."""
    environment = worker_environment(settings)
    values = {name: environment[name] for name in NAMES}
    programs = str(Path(sys.executable).parent)
    others = [folder for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder != programs]
    values["PATH"] = os.pathsep.join([programs, *others])
    return [f"export {name}={shlex.quote(value)}" for name, value in values.items()]


def main(arguments: list[str]) -> int:
    """Print the exports; return the exit code."""
    ArgumentParser(prog="dcgan env", description=__doc__).parse_args(arguments)
    return run_operation(lambda: print_line("\n".join(exports(ServerSettings.read()))))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
