"""The workers of Prefect's work pools."""

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import WorkerStatus

KUBERNETES_TYPE = "kubernetes"  # of a pool whose workers create jobs and are free again at once


def has_worker(client: SyncPrefectClient, pool: str) -> bool:
    """Return whether a worker of a work pool is online, busy or not."""
    return _online(client, pool) > 0


def runs_several(client: SyncPrefectClient, pool: str) -> bool:
    """Return whether a work pool can run another flow run while one of its own waits for it.

    This project's other workers than those of Kubernetes run one flow run at a time each.
    """
    return client.read_work_pool(pool).type == KUBERNETES_TYPE or _online(client, pool) > 1


def _online(client: SyncPrefectClient, pool: str) -> int:
    return sum(worker.status == WorkerStatus.ONLINE for worker in client.read_workers_for_work_pool(pool))
