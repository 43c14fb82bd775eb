"""Make the templates of MLflow's and Prefect's databases: `python -m operations.make_templates`, run by `make setup`.

Those of other versions are removed.
"""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from dcgan.files import atomic_file
from tracking.database_template import template_of
from tracking.store import create_tables


def make_prefect_database(path: Path) -> None:
    """Make Prefect's database."""
    subprocess.run(  # noqa: S603 - Prefect's own command
        [Path(sys.executable).with_name("prefect"), "server", "database", "upgrade", "--yes"],
        env={
            **os.environ,
            "PREFECT_HOME": str(path.parent),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{path}",
        },
        stdout=subprocess.DEVNULL,
        check=True,
    )


def make_template(package: str, make: Callable[[Path], None]) -> None:
    """Make one template where the installed version has none yet."""
    template = template_of(package)
    if template.exists():
        return
    with TemporaryDirectory() as folder, atomic_file(template) as temporary:
        database = Path(folder) / "database.db"
        make(database)
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("VACUUM INTO ?", [str(temporary)])
    for other in template.parent.glob(f"{package}-*.db"):
        if other != template:
            other.unlink()


def main() -> int:
    """Make what is missing; return the exit code 0, or raise."""
    make_template("mlflow", create_tables)
    make_template("prefect", make_prefect_database)
    return 0


if __name__ == "__main__":
    sys.exit(main())
