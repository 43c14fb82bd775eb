"""What runs beside the flows: the local servers and workers, deployments, and the environment of a shell."""

from tasks.settings import set_default_environment

set_default_environment()
