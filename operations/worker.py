"""`dcgan worker`: run a Prefect worker of type `process`, one flow run at a time.

A flow run that was declared Crashed is scheduled again, and may be offered to the worker that still runs it. With a
limit, Prefect's own worker (3.8) then ends with a RuntimeError, and its flow runs with it. This one leaves such a flow
run to other workers as long as it runs it itself.
"""

import sys
import warnings
from argparse import ArgumentParser
from typing import TYPE_CHECKING

from prefect.cli import app
from prefect.workers.process import ProcessWorker

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import WorkerFlowRunResponse

with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # it replaces Prefect's own worker of this type on purpose

    class Worker(ProcessWorker):
        """A worker of type `process` that ignores flow runs that it already runs."""

        async def _submit_scheduled_flow_runs(
            self, flow_run_response: "list[WorkerFlowRunResponse]"
        ) -> "list[FlowRun]":
            running = self.limiter.statistics().borrowers
            others = [offered for offered in flow_run_response if offered.flow_run.id not in running]
            return await super()._submit_scheduled_flow_runs(others)


def main(arguments: list[str]) -> int:
    """Run a worker until a signal comes; it creates its pool if that does not exist."""
    parser = ArgumentParser(prog="dcgan worker", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pool", required=True, help="Work pool whose flow runs it runs, such as gpu or cpu")
    parser.add_argument("--name", help="Name that Prefect's pages show; by default one that Prefect invents")
    parser.add_argument("--with-healthcheck", action="store_true", help="Serve its health on port 8080 of 127.0.0.1")
    options = parser.parse_args(arguments)
    health = ["--with-healthcheck"] if options.with_healthcheck else []
    name = ["--name", options.name] if options.name else []
    # Prefect's command line reads sys.argv and nothing else
    sys.argv[1:] = ["worker", "start", "--type", "process", "--limit", "1", "--pool", options.pool, *name, *health]
    app()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
