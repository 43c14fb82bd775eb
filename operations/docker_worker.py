"""`dcgan worker --pool gpu-docker`: run a Prefect worker of type `docker`, one flow run at a time.

Its flow runs are containers, which know nothing of this machine. As with workers of type `process`, they get the
servers' addresses and passwords from the worker's environment; Prefect's own worker passes on its own settings only.
"""

import sys
import warnings
from contextlib import closing
from typing import Any

import docker
from docker.errors import APIError, DockerException
from docker.models.containers import Container
from prefect.events import Event
from prefect_docker.worker import DockerWorker, DockerWorkerJobConfiguration

from dcgan.errors import ConfigurationError
from dcgan.files import first_line
from operations.servers import ServerSettings, client_environment
from operations.worker import IgnoresItsOwn, start

PROBE_SECONDS = 10


class JobConfiguration(DockerWorkerJobConfiguration):
    """What a container gets: Prefect's settings, MLflow's address and passwords, and the variables of its pool."""

    def _base_environment(self) -> dict[str, str]:
        return {**super()._base_environment(), **client_environment(ServerSettings.read())}


with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # it replaces Prefect's own worker of this type on purpose

    class Worker(IgnoresItsOwn, DockerWorker):
        """A worker of type `docker`."""

        job_configuration = JobConfiguration

        def _create_and_start_container(self, configuration: JobConfiguration) -> tuple[Container, Event]:
            try:
                return super()._create_and_start_container(configuration)
            except APIError as error:
                remove_unstarted(configuration.labels)
                raise ConfigurationError(f"Docker refuses the container: {error.explanation}") from None

        def _create_container(self, docker_client: docker.DockerClient, **settings: Any) -> Container:
            require_same_architecture(docker_client, settings["image"])
            return super()._create_container(docker_client, **settings)


def remove_unstarted(labels: dict[str, str]) -> None:
    """Remove the containers with these labels that were created and never started."""
    filters = {"status": "created", "label": [f"{name}={value}" for name, value in labels.items()]}
    with closing(docker.from_env()) as client:
        for container in client.containers.list(all=True, filters=filters):
            container.remove()


def require_same_architecture(client: docker.DockerClient, image: str) -> None:
    """Check that this machine can run an image; Docker finds out when the container has ended already.

    Raises:
        ConfigurationError: The image is for processors of another kind.
    """
    built_for, here = client.images.get(image).attrs["Architecture"], client.version()["Arch"]
    if built_for != here:
        raise ConfigurationError(f"The image {image} is for {built_for}; expected one for {here}, as this machine is.")


def main(arguments: list[str]) -> int:
    """Run a worker of type `docker`; return 1 if Docker does not answer."""
    try:
        docker.from_env(timeout=PROBE_SECONDS).ping()
    except DockerException as error:
        advice = "start it, let this user use it, or set DOCKER_HOST"
        sys.stderr.write(f"error: Docker does not answer ({first_line(error)}): {advice}.\n")
        return 1
    return start(DockerWorker.type, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
