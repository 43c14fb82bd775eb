"""`make deploy`: work pools, the deployments of prefect.yaml and automations.yaml, on the Prefect server that runs."""

import os
import subprocess
import sys

import httpx

from dcgan.errors import DcganError
from operations import programs
from operations.access import prefect_api, prefect_headers
from operations.addresses import PREFECT_VARIABLE, ServerSettings
from operations.automations import apply_automations, read_automations
from tasks.settings import CHECKOUT

# Work queues of which one flow run is taken at a time, by pool and name: Prefect counts those that are pending or run.
# The limit of a deployment is a lease, and Prefect cancels a training that could not renew it because of an outage.
ONE_AT_A_TIME = (("gpu", "retrain"),)


class DeployError(DcganError):
    """Prefect's server is not there, or refused something."""


def deploy(settings: ServerSettings) -> None:
    """Create the work pools that are not there, and create or update every deployment and automation.

    Raises:
        DeployError: Prefect's server does not answer, or refused something.
    """
    if not programs.prefect_answers(settings):
        raise DeployError(
            f"Prefect's server at {settings.prefect.url} does not answer: start it with 'make ui', "
            f"or set {PREFECT_VARIABLE} to the API of one that runs."
        )
    for pool in programs.POOLS:
        if not _pool_exists(settings, pool):
            _prefect(settings, "work-pool", "create", pool, "--type", "process")
    _prefect(settings, "deploy", "--all")
    try:
        limit_queues(settings)
        apply_automations(settings, read_automations())
    except httpx.HTTPError as error:
        raise DeployError(f"Prefect's server refused a limit or automation: {str(error).splitlines()[0]}") from None


def limit_queues(settings: ServerSettings) -> None:
    """Let workers take one flow run at a time from the queues that are to be so.

    Raises:
        httpx.HTTPError: the server does not answer, or has no such queue.
    """
    with prefect_api(settings) as api:
        for pool, queue in ONE_AT_A_TIME:
            api.patch(f"/work_pools/{pool}/queues/{queue}", json={"concurrency_limit": 1})


def _pool_exists(settings: ServerSettings, pool: str) -> bool:
    url = f"{settings.prefect.url}/work_pools/{pool}"
    return httpx.get(url, headers=prefect_headers(settings), timeout=programs.ANSWER_SECONDS).is_success


def _prefect(settings: ServerSettings, *arguments: str) -> None:
    done = subprocess.run(  # noqa: S603 - the arguments are this program's own
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        cwd=CHECKOUT,
        env={**os.environ, PREFECT_VARIABLE: settings.prefect.url},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1]
        raise DeployError(f"'prefect {' '.join(arguments)}' failed: {reason}")


def main() -> int:
    """Deploy, and return the exit code: 1 when something failed, which is said in one sentence."""
    settings = ServerSettings()
    try:
        deploy(settings)
    except DcganError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"Deployed to {settings.prefect.url}; `prefect deployment ls` lists what runs there.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
