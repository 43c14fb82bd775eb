"""The settings and the open MLflow store, made once by a flow and passed down to its tasks."""

from dataclasses import dataclass

from tasks.settings import Settings
from tracking.store import Store


@dataclass(frozen=True)
class Context:
    """What the tasks of one flow run share."""

    settings: Settings
    store: Store


def open_context(settings: Settings) -> Context:
    """Open the store that the settings name.

    Raises:
        ConfigurationError: The address is not that of a store.
        TrackingError: The store does not answer, or cannot be used.
    """
    return Context(settings, Store(settings.tracking_uri, settings.artifact_root, settings.root / "mlflow.lock"))
