"""Templates of databases: the same as their migrations make, and not needed."""

import errno
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from operations.make_templates import make_template
from tracking.database_template import copy_template, template_of

ROOT = Path(__file__).parents[2]
OPEN_STORE = (
    "import sys; from pathlib import Path; from tracking.store import Store; folder = Path(sys.argv[1]); "
    "Store(f'sqlite:///{folder}/mlflow.db', folder / 'artifacts', folder / 'lock')"
)


def contents(database: Path) -> tuple[set[tuple[str, ...]], list[tuple[str, ...]]]:
    """Return the columns of a database's tables, and its experiments without their times."""
    columns = (
        "SELECT tables.name, columns.name, columns.type, columns.pk FROM sqlite_master AS tables "
        "JOIN pragma_table_info(tables.name) AS columns WHERE tables.type = 'table'"
    )
    experiments = "SELECT experiment_id, name, lifecycle_stage FROM experiments ORDER BY experiment_id"
    with closing(sqlite3.connect(database)) as connection:
        return set(connection.execute(columns)), connection.execute(experiments).fetchall()


@pytest.mark.parametrize("package", ["mlflow", "prefect"])
def test_set_up_made_them(package):
    """Each is of the installed version, whole, and has no data but the number of its schema and MLflow's workspace."""
    with closing(sqlite3.connect(template_of(package))) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        filled = [name for name in tables if connection.execute(f'SELECT 1 FROM "{name}"').fetchone()]  # noqa: S608 - its own
    assert len(tables) > 20
    assert set(filled) - {"workspaces"} == {"alembic_version"}


@pytest.mark.slow
def test_a_store_is_the_same_with_and_without(tmp_path, python_without_templates):
    """MLflow finds in a copy what its migrations would have made."""
    for name, python in (("with", sys.executable), ("without", python_without_templates)):
        (tmp_path / name).mkdir()
        subprocess.run([python, "-c", OPEN_STORE, tmp_path / name], cwd=ROOT, check=True)
    assert contents(tmp_path / "with" / "mlflow.db") == contents(tmp_path / "without" / "mlflow.db")
    assert [name for _, name, _ in contents(tmp_path / "with" / "mlflow.db")[1]] == ["Default", "dcgan"]


def test_a_database_that_exists_stays(tmp_path):
    """A template is for a database that does not exist."""
    (tmp_path / "mlflow.db").write_bytes(b"mine")
    copy_template("mlflow", tmp_path / "mlflow.db")
    assert (tmp_path / "mlflow.db").read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_only_that_of_the_installed_version_is_kept(tmp_path, monkeypatch):
    """It is made once, complete or not at all; one of another version is removed."""

    def make(database: Path) -> None:
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("CREATE TABLE made (it TEXT)")

    def fail(database: Path) -> None:
        make(database)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    stale = template_of("mlflow").with_name("mlflow-1.0.0.db")
    stale.parent.mkdir(parents=True)
    stale.touch()
    with pytest.raises(OSError, match="No space"):
        make_template("mlflow", fail)
    assert list(stale.parent.iterdir()) == [stale]
    make_template("mlflow", make)
    make_template("mlflow", fail)
    assert list(stale.parent.iterdir()) == [template_of("mlflow")]
