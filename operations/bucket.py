"""The bucket of MLflow's artifacts: create it, save it into a folder, and fill it again from there.

The environment says where it is, with the names of MLflow's server. `python -m operations.bucket save FOLDER` copies
what the folder does not have yet, so that it can be repeated; `restore FOLDER` puts everything back.
"""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from dcgan.errors import ConfigurationError
from dcgan.files import TEMPORARY_PREFIX, atomic_file, first_line
from operations.command import print_line, run_operation


class Bucket:
    """A bucket of a server that speaks S3.

    Args:
        name: Its name.
        endpoint: Address of the server; None for Amazon's.
    """

    def __init__(self, name: str, endpoint: str | None) -> None:
        self.name = name
        self._client = boto3.client("s3", endpoint_url=endpoint, config=Config(s3={"addressing_style": "path"}))

    @classmethod
    def of_environment(cls) -> "Bucket":
        """Return the bucket that MLflow's server uses.

        Raises:
            ConfigurationError: The environment names none.
        """
        destination = os.environ.get("MLFLOW_ARTIFACTS_DESTINATION", "")
        if not destination.startswith("s3://"):
            raise ConfigurationError(
                f"The setting MLFLOW_ARTIFACTS_DESTINATION is {destination!r}; expected a bucket, as s3://NAME."
            )
        return cls(urlsplit(destination).netloc, os.environ.get("MLFLOW_S3_ENDPOINT_URL"))

    def create(self) -> None:
        """Create it unless it exists."""
        if self.name not in [each["Name"] for each in self._client.list_buckets()["Buckets"]]:
            self._client.create_bucket(Bucket=self.name)

    def save(self, folder: Path) -> int:
        """Copy every object that the folder lacks or has in another version; return how many were copied.

        Raises:
            ConfigurationError: The name of an object leads out of the folder.
        """
        copied = 0
        for item in self._objects():
            path, changed = path_in(folder, item["Key"]), item["LastModified"].timestamp()
            if path.exists() and path.stat().st_size == item["Size"] and path.stat().st_mtime == changed:
                continue
            with atomic_file(path) as file:
                self._client.download_file(self.name, item["Key"], str(file))
                os.utime(file, (changed, changed))
            copied += 1
        return copied

    def restore(self, folder: Path) -> int:
        """Put every file of a folder into it but what a killed `save` left half written; return how many there were."""
        self.create()
        files = [
            path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(TEMPORARY_PREFIX)
        ]
        for path in files:
            self._client.upload_file(str(path), self.name, path.relative_to(folder).as_posix())
        return len(files)

    def _objects(self) -> Iterator[dict[str, Any]]:
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name):
            yield from page.get("Contents", [])


def path_in(folder: Path, key: str) -> Path:
    """Return the path of an object in a folder.

    Raises:
        ConfigurationError: The object's name leads out of the folder.
    """
    if key.startswith("/") or ".." in Path(key).parts:
        raise ConfigurationError(f"The object {key!r} cannot be a file in {folder}; expected a relative path.")
    return folder / key


def main(arguments: list[str]) -> int:
    """Save or restore the bucket; return the exit code."""
    parser = ArgumentParser(prog="python -m operations.bucket", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("save", "restore"))
    parser.add_argument("folder", type=Path, help="Folder of the copy")
    options = parser.parse_args(arguments)

    def body() -> None:
        bucket = Bucket.of_environment()
        try:
            count = (bucket.save if options.what == "save" else bucket.restore)(options.folder)
        except (Boto3Error, BotoCoreError, ClientError) as error:
            raise ConfigurationError(f"The bucket {bucket.name} cannot be copied: {first_line(error)}.") from None
        print_line(f"{count} files were copied.")

    return run_operation(body)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
