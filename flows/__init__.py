"""The deployable flows. They run in this process, or in a Prefect worker's.

Prefect and TensorFlow read their environment when they are imported, so its defaults are set here, before any flow is
loaded.
"""

import atexit
import gc
import logging

from dcgan.errors import DcganError
from tasks.settings import interrupt_without_traceback, set_default_environment

interrupt_without_traceback()
set_default_environment()
# without a level of its own, the library's progress would reach neither Prefect's page nor a worker's log
logging.getLogger("dcgan").setLevel(logging.INFO)


def _without_traceback(record: logging.LogRecord) -> bool:
    """Keep Prefect from logging three tracebacks for an error whose sentence says everything."""
    if record.exc_info and isinstance(record.exc_info[1], DcganError):
        record.exc_info = None
    return True


for _name in ("prefect.flow_runs", "prefect.task_runs", "prefect.engine"):
    logging.getLogger(_name).addFilter(_without_traceback)
# else each process, before it ends, searches all objects of TensorFlow, MLflow and Prefect for cycles, for seconds
atexit.register(gc.freeze)
