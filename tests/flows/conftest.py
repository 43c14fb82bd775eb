"""A real Prefect server, started once for all tests of flows."""

from collections.abc import Iterator

import pytest
from prefect.testing.utilities import prefect_test_harness


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """Run a Prefect server with a database of its own until the tests end."""
    with prefect_test_harness(server_startup_timeout=180):
        yield
