"""Prefect's worker for processes, one flow run at a time, that outlives one which was only taken for dead.

A flow run that was declared Crashed is scheduled again, and offered to the worker that may still be running it. With a
`--limit`, Prefect's own worker (3.8) ends with a RuntimeError then, and its flow runs with it. This one leaves such a
flow run to other workers for as long as it runs it itself. It takes the flags of `prefect worker start`.
"""

import sys
import warnings
from typing import TYPE_CHECKING

from prefect.cli import app
from prefect.workers.process import ProcessWorker

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import WorkerFlowRunResponse

with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # it takes the place of Prefect's own, on purpose

    class Worker(ProcessWorker):
        """A worker of the type `process`."""

        async def _submit_scheduled_flow_runs(
            self, flow_run_response: "list[WorkerFlowRunResponse]"
        ) -> "list[FlowRun]":
            running = self.limiter.statistics().borrowers
            others = [offered for offered in flow_run_response if offered.flow_run.id not in running]
            return await super()._submit_scheduled_flow_runs(others)


if __name__ == "__main__":
    sys.argv[1:1] = ["worker", "start", "--type", "process", "--limit", "1"]
    app()
