"""What people see of a flow run in Prefect: Markdown that belongs to it, and the sentence beside its last state."""

import logging
from typing import TypeVar, cast

from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext
from prefect.states import Completed

logger = logging.getLogger("dcgan.report")

R = TypeVar("R")


def publish(markdown: str, key: str, description: str) -> None:
    """Show Markdown as an artifact of this flow run, if there is one; nothing depends on whether Prefect takes it."""
    if FlowRunContext.get() is None:
        return
    try:
        create_markdown_artifact(markdown, key=key, description=description)
    except Exception as error:  # noqa: BLE001 - whatever the server's trouble is, the work itself is done
        logger.warning("Prefect was not shown the artifact %s: %s", key, error)


def completed(result: R, sentence: str) -> R:
    """Return what a flow returns so that its Completed state says `sentence`; who called the flow gets `result`."""
    return cast(R, Completed(data=result, message=sentence))
