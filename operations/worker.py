"""`dcgan worker`: run a Prefect worker of type `process`, one flow run at a time."""

import asyncio
import os
import signal
import sys
import warnings
from argparse import ArgumentParser
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import anyio
import httpx
import psutil
from prefect.cli import app
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_WORKER_WEBSERVER_HOST, PREFECT_WORKER_WEBSERVER_PORT
from prefect.workers.process import ProcessWorker

from dcgan.errors import ConfigurationError
from operations.command import DONE, FAILED, run_operation
from operations.prefect_server import refused_password
from operations.servers import POOLS, Address, local_url
from operations.supervisor import GRACE_SECONDS, POLL_SECONDS, stop_signals
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
        """A worker of type `process` that ends its flow runs before itself.

        At a signal Prefect's own (3.8) kills them at once, and they stay Running in Prefect although nothing runs. This
        one takes no more flow runs, sends SIGTERM to those that it has, and ends when they have, or after the grace
        time. A second signal is Prefect's again, and ends it at once.
        """

        _stopping: asyncio.Task[None] | None = None

        async def __aenter__(self) -> Self:
            await super().__aenter__()
            # Prefect's command line has set handlers of its own by now
            loop, before = asyncio.get_running_loop(), {number: signal.getsignal(number) for number in stop_signals()}

            def stop() -> None:
                for number, handler in before.items():
                    loop.remove_signal_handler(number)
                    signal.signal(number, handler)
                self._stopping = loop.create_task(self._stop_flow_runs())

            for number in before:
                loop.add_signal_handler(number, stop)
            return self

        async def get_and_submit_flow_runs(self) -> "list[FlowRun]":
            """Ask for flow runs that are due and start them, unless the worker is to end."""
            return [] if self._stopping else await super().get_and_submit_flow_runs()

        async def _stop_flow_runs(self) -> None:
            if self.limiter.borrowed_tokens:
                self._logger.info("Stopping; flow runs first.")
            signalled: set[psutil.Process] = set()
            with anyio.move_on_after(GRACE_SECONDS):
                while self.limiter.borrowed_tokens:
                    # again and again, as one may have been about to start
                    for process in set(psutil.Process().children()) - signalled:
                        with suppress(psutil.NoSuchProcess):
                            process.terminate()
                        signalled.add(process)
                    await anyio.sleep(POLL_SECONDS)
            os.kill(os.getpid(), signal.SIGTERM)


def start(worker_type: str, arguments: list[str]) -> int:
    """Run a worker of a type that is registered with Prefect, until a signal comes.

    Args:
        worker_type: Prefect's name of the type.
        arguments: The command line.
    """
    parser = ArgumentParser(prog="dcgan worker", description="Run a Prefect worker, one flow run at a time.")
    parser.add_argument("--pool", required=True, help="Work pool whose flow runs it runs, such as gpu or cpu")
    parser.add_argument("--name", help="Name that Prefect's pages show; by default one that Prefect invents")
    parser.add_argument(
        "--with-healthcheck",
        action="store_true",
        help="Answer /health at port 8080 of 127.0.0.1, or the port of PREFECT_WORKER_WEBSERVER_PORT",
    )
    options = parser.parse_args(arguments)

    def check() -> None:
        require_pool(options.pool)
        host, port = PREFECT_WORKER_WEBSERVER_HOST.value(), PREFECT_WORKER_WEBSERVER_PORT.value()
        if options.with_healthcheck and port:  # 0 is any free one
            Address(local_url(host, port), "PREFECT_WORKER_WEBSERVER_PORT", host).require_free_port()

    if run_operation(check) != DONE:
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
    except (httpx.HTTPError, ValueError) as error:
        if isinstance(error, httpx.HTTPStatusError) and error.response.status_code == httpx.codes.UNAUTHORIZED:
            raise ConfigurationError(refused_password(PREFECT_API_URL.value())) from None
        return  # Prefect's worker waits for its server, and says so
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
