"""`dcgan worker`: run a Prefect worker of type `process`, one flow run at a time."""

import os
import sys
import warnings
from argparse import ArgumentParser
from typing import TYPE_CHECKING, Any

import httpx
from prefect.cli import app
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL
from prefect.workers.process import ProcessWorker

from dcgan.errors import ConfigurationError
from operations.command import DONE, FAILED, run_operation
from operations.servers import POOLS
from tasks.settings import CHECKOUT

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import WorkerFlowRunResponse
    from prefect.workers.base import BaseWorker

    _AnyWorker = BaseWorker[Any, Any, Any]
else:
    _AnyWorker = object  # Prefect registers every subclass of its own base as a type


class IgnoresItsOwn(_AnyWorker):
    """A worker that ignores flow runs that it already runs; Prefect's class for the type is the other base.

    A flow run that was declared Crashed is scheduled again, and may be offered to the worker that still runs it. With a
    limit, Prefect's own workers (3.8) then end with a RuntimeError, and their flow runs with them. This one leaves such
    a flow run to other workers as long as it runs it itself.
    """

    async def _submit_scheduled_flow_runs(self, flow_run_response: "list[WorkerFlowRunResponse]") -> "list[FlowRun]":
        running = self.limiter.statistics().borrowers
        others = [offered for offered in flow_run_response if offered.flow_run.id not in running]
        return await super()._submit_scheduled_flow_runs(others)


with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # it replaces Prefect's own worker of this type on purpose

    class Worker(IgnoresItsOwn, ProcessWorker):
        """A worker of type `process`."""


def start(worker_type: str, arguments: list[str]) -> int:
    """Run a worker of a type that is registered with Prefect, until a signal comes.

    Args:
        worker_type: Prefect's name of the type.
        arguments: The command line.
    """
    parser = ArgumentParser(prog="dcgan worker", description="Run a Prefect worker, one flow run at a time.")
    parser.add_argument("--pool", required=True, help="Work pool whose flow runs it runs, such as gpu or cpu")
    parser.add_argument("--name", help="Name that Prefect's pages show; by default one that Prefect invents")
    parser.add_argument("--with-healthcheck", action="store_true", help="Answer /health at port 8080 of 127.0.0.1")
    options = parser.parse_args(arguments)
    if run_operation(lambda: require_pool(options.pool)) != DONE:
        return FAILED
    os.environ.setdefault("DCGAN_HOME", str(CHECKOUT))  # the working directory that prefect.yaml's pull step sets
    # Prefect's command line reads sys.argv and nothing else
    sys.argv[1:] = [
        *("worker", "start", "--type", worker_type, "--limit", "1", "--pool", options.pool),
        *(("--name", options.name) if options.name else ()),
        *(("--with-healthcheck",) if options.with_healthcheck else ()),
    ]
    app()
    return 0


def require_pool(pool: str) -> None:
    """Refuse the name of a pool that does not exist, which Prefect's worker would create and wait on for ever.

    The pools of `make deploy` on this machine are created, so that workers can be started before it.

    Raises:
        ConfigurationError: There is no such pool, or PREFECT_API_URL names no server.
    """
    if not PREFECT_API_URL.value():
        raise ConfigurationError(
            'A worker needs Prefect\'s server; expected PREFECT_API_URL to name it (make ui, then eval "$(make env)").'
        )
    try:
        with get_client(sync_client=True) as client:
            existing = [found.name for found in client.read_work_pools()]
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"The setting PREFECT_API_URL is not an address: {error}.") from None
    except (httpx.HTTPError, ValueError):  # Prefect's worker waits for its server, and says so
        return
    if pool not in (*existing, *POOLS):
        raise ConfigurationError(
            f"Prefect's server has no work pool {pool}; expected one of {', '.join(sorted({*existing, *POOLS}))}, or "
            "another one that 'make deploy' creates."
        )


def main(arguments: list[str]) -> int:
    """Run a worker of type `process`, and return the exit code."""
    return start(ProcessWorker.type, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
