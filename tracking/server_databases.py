"""The databases of an MLflow server with several workers, which would otherwise create the tables at the same time."""

from mlflow.db import commands
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore as UserStore
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore


def prepare_databases(runs: str, users: str) -> None:
    """Create or migrate the tables of runs and models, and those of users.

    Args:
        runs: Address of the database of runs and models.
        users: Address of the database of MLflow's users.
    """
    commands(["upgrade", runs], standalone_mode=False)
    # its experiment Default, whose artifacts the server keeps behind itself, as those of any other
    SqlAlchemyStore(runs, "mlflow-artifacts:/")
    UserStore().init_db(users)
