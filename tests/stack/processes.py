"""The processes of a running `make stack`."""

import psutil

from tests.service_stack import ServiceStack


def process_of(team: ServiceStack, name: str) -> psutil.Process:
    """Return the process of one of the stack's services, by words of its command line."""
    words = {
        "prefect": {"server", "start", "--no-services"},
        "redis": {"redis-server"},
        "bucket": {"-s3"},
        "mlflow": {"mlflow", "--expose-prometheus"},
        "services": {"services", "start"},
    }[name]
    return next(
        each
        for each in psutil.Process(team.process.pid).children()
        if all(any(word in argument for argument in each.cmdline()) for word in words)
    )
