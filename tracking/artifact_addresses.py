"""Where MLflow's database says that artifacts are: in a folder of one machine, or behind MLflow's server.

MLflow has no interface that changes the address of an artifact, so this module knows the columns that have one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import ColumnElement, MetaData, Table, create_engine, func, inspect, literal, select, update
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from dcgan.errors import TrackingError, mask_credentials
from dcgan.files import first_line

SERVED = "mlflow-artifacts:"
ADDRESSES = {  # column by table; the runs first, whose number is printed
    "runs": "artifact_uri",
    "experiments": "artifact_location",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


def are_in_folder(database: str, folder: Path) -> bool:
    """Return whether anything in MLflow's database is addressed in a folder of this machine.

    Raises:
        TrackingError: The database cannot be read.
    """
    if _is_missing(database):
        return False
    with _connected(database) as connection:
        return any(
            connection.execute(select(literal(1)).where(_below(column, folder)).limit(1)).first()
            for column in _columns(connection)
        )


def put_behind_server(database: str, folder: Path) -> int:
    """Address all artifacts in a folder as those of the server that has it as destination, and return how many runs.

    It is one transaction: killed at any moment, all addresses are the old or the new ones.

    Raises:
        TrackingError: The database cannot be changed.
    """
    changed = []
    with _connected(database) as connection, connection.begin():
        for column in _columns(connection):
            rest = func.substr(column, len(folder.as_uri()) + 1)
            done = connection.execute(
                update(column.table).where(_below(column, folder)).values({column.name: literal(SERVED) + rest})
            )
            changed.append(done.rowcount)
    return changed[0] if changed else 0


def _is_missing(database: str) -> bool:
    """Return whether this is an SQLite database without a file, which to connect would create."""
    url = make_url(database)
    return url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file()


def _below(column: ColumnElement[str], folder: Path) -> ColumnElement[bool]:
    return column.startswith(f"{folder.as_uri()}/", autoescape=True)


def _columns(connection: Connection) -> Iterator[ColumnElement[str]]:
    """Yield the columns that have addresses; none where MLflow has not made its tables yet."""
    present = inspect(connection).get_table_names()
    for table, column in ADDRESSES.items():
        if table in present:
            yield Table(table, MetaData(), autoload_with=connection).c[column]


@contextmanager
def _connected(database: str) -> Iterator[Connection]:
    try:
        with create_engine(database, poolclass=NullPool).connect() as connection:
            yield connection
    except (SQLAlchemyError, ImportError) as error:
        raise TrackingError(
            f"MLflow's database {mask_credentials(database)} cannot be used: {mask_credentials(first_line(error))}."
        ) from error
