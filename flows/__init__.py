"""The deployable flows. They run in this process, or in a Prefect worker's.

Prefect and TensorFlow read their environment when they are imported, so its defaults are set here, before any flow is
loaded.
"""

from tasks.settings import settle_environment

settle_environment()
