"""What the team stack does once before MLflow's server starts: its databases' tables, and the bucket.

It reads the environment of MLflow's server, so that no address with a password is on a command line.
"""

import os
import sys
from configparser import ConfigParser

from botocore.exceptions import BotoCoreError, ClientError
from sqlalchemy.exc import SQLAlchemyError

from dcgan.errors import mask_credentials
from dcgan.files import first_line
from operations.bucket import Bucket
from tracking.server_databases import prepare_databases


def main() -> int:
    """Prepare what MLflow's server needs; return the exit code, 1 if a server refused something."""
    config = ConfigParser()
    config.read(os.environ["MLFLOW_AUTH_CONFIG_PATH"], encoding="utf-8")
    try:
        Bucket.of_environment().create()
        prepare_databases(os.environ["MLFLOW_BACKEND_STORE_URI"], config["mlflow"]["database_uri"])
    except (BotoCoreError, ClientError, SQLAlchemyError) as error:
        sys.stderr.write(f"error: {mask_credentials(first_line(error))}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
