"""What runs beside the flows: the servers and workers of `make ui`, and the deployments of `make deploy`."""

from tasks.settings import settle_environment

settle_environment()
