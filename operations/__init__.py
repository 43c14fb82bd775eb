"""What runs beside the flows: the local servers and workers, deployments, and the environment of a shell."""

from tasks.settings import interrupt_without_traceback, set_default_environment

interrupt_without_traceback()
set_default_environment()
