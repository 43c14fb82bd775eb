"""What the team stack does once before MLflow's server starts: its databases' tables, and the bucket.

It reads the environment of MLflow's server, so that no address with a password is on a command line.
"""

import os
import sys
from configparser import ConfigParser

from botocore.exceptions import BotoCoreError, ClientError
from sqlalchemy.exc import SQLAlchemyError

from dcgan.errors import ConfigurationError
from dcgan.files import first_line
from operations.bucket import Bucket
from operations.command import run_operation
from tracking.server_databases import prepare_databases


def main() -> int:
    """Prepare what MLflow's server needs; return the exit code."""

    def body() -> None:
        config = ConfigParser()
        config.read(os.environ["MLFLOW_AUTH_CONFIG_PATH"], encoding="utf-8")
        try:
            Bucket.of_environment().create()
            prepare_databases(os.environ["MLFLOW_BACKEND_STORE_URI"], config["mlflow"]["database_uri"])
        except (BotoCoreError, ClientError, SQLAlchemyError) as error:
            raise ConfigurationError(f"What MLflow's server needs cannot be prepared: {first_line(error)}.") from None

    return run_operation(body)


if __name__ == "__main__":
    sys.exit(main())
