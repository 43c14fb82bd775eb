"""The deployable flows. They run in this process, or in a Prefect worker's.

Prefect and TensorFlow read their environment when they are imported, so its defaults are set here, before any flow is
loaded.
"""

import atexit
import gc
import logging

from tasks.settings import set_default_environment

set_default_environment()
# without a level of its own, the library's progress would reach neither Prefect's page nor a worker's log
logging.getLogger("dcgan").setLevel(logging.INFO)
# else each process, before it ends, searches all objects of TensorFlow, MLflow and Prefect for cycles, for seconds
atexit.register(gc.freeze)
