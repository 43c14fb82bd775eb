"""`dcgan serve-artifacts`: put the artifacts of this machine's MLflow store behind its server, for other machines."""

import sys
from argparse import ArgumentParser

from dcgan.errors import ConfigurationError
from operations.command import print_line, run_operation
from operations.servers import ServerSettings
from tasks.settings import quiet_imports
from tracking.artifact_addresses import are_in_folder, put_behind_server

with quiet_imports():
    from tasks.context import open_context
    from tracking.retention import recorded_runs


def serve_artifacts(settings: ServerSettings) -> str:
    """Put the artifacts behind the server, and return what was done as a sentence.

    Raises:
        ConfigurationError: The server runs, or a training run is in use.
        TrackingError: The database cannot be used.
    """
    if not settings.mlflow.is_local:
        raise ConfigurationError(
            f"MLflow's server {settings.mlflow.url} is on another machine; expected to run this there."
        )
    if settings.mlflow.answers():
        raise ConfigurationError(f"MLflow's server at {settings.mlflow.url} runs; expected 'make ui' to be stopped.")
    database, folder = settings.mlflow_database, settings.artifact_root
    if not are_in_folder(database, folder):
        return "No artifact is addressed in a folder of this machine; nothing is changed."
    context = open_context(settings.model_copy(update={"mlflow_uri": database}))
    if used := [run.run_id for run in recorded_runs(context.store) if run.in_use]:
        raise ConfigurationError(f"A process uses the run {used[0]}; expected no training run.")
    runs = put_behind_server(database, folder)
    return (
        f"The artifacts of {runs} run{'' if runs == 1 else 's'} are behind the server now. From now on, clients on "
        "this machine use the server too: start it with 'make ui', and set MLFLOW_TRACKING_URI as 'make env' says."
    )


def main(arguments: list[str]) -> int:
    """Put the artifacts behind the server; return the exit code."""
    ArgumentParser(prog="dcgan serve-artifacts", description=__doc__).parse_args(arguments)
    return run_operation(lambda: print_line(serve_artifacts(ServerSettings.read())))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
