"""The deployable flows. They run in this process, or in a Prefect worker's.

Prefect and TensorFlow read their environment when they are imported, so its defaults are set here, before any flow is
loaded.
"""

import logging

from tasks.settings import set_default_environment

set_default_environment()
# without a level of its own, the library's progress would reach neither Prefect's page nor a worker's log
logging.getLogger("dcgan").setLevel(logging.INFO)
