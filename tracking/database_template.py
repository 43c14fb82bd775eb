"""Templates: new, empty SQLite databases of MLflow and Prefect, whose dozens of migrations take seconds.

`make setup` makes them beside the installed packages. Where one is missing, the database is made by its migrations.
"""

import shutil
import sys
from importlib.metadata import version
from pathlib import Path

from dcgan.files import atomic_file


def template_of(package: str) -> Path:
    """Return the file of the template of the installed version of `mlflow` or `prefect`."""
    return Path(sys.prefix) / "share" / "dcgan" / f"{package}-{version(package)}.db"


def copy_template(package: str, database: Path) -> None:
    """Copy a template, where there is one, to a database that does not exist; callers hold the database's lock."""
    template = template_of(package)
    if template.exists() and not database.exists():
        with atomic_file(database) as temporary:
            shutil.copyfile(template, temporary)


def database_lock(database: Path) -> Path:
    """Return the lock file of whoever creates a database."""
    return database.with_name(f".{database.name}.lock")
