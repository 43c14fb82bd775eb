"""The workers of Prefect's work pools."""

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import WorkerStatus


def has_worker(client: SyncPrefectClient, pool: str) -> bool:
    """Return whether a worker of a work pool is online, busy or not."""
    return any(worker.status == WorkerStatus.ONLINE for worker in client.read_workers_for_work_pool(pool))
