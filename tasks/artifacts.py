"""What people see of a flow run in Prefect: Markdown that belongs to it, and the sentence beside its last state."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.context import FlowRunContext
from prefect.states import Completed

logger = logging.getLogger("dcgan.report")

R = TypeVar("R")


def publish(markdown: str, key: str, description: str) -> None:
    """Show Markdown as an artifact of this flow run, if there is one; nothing depends on whether Prefect takes it."""
    if FlowRunContext.get() is not None:
        with _if_prefect_answers(key):
            create_markdown_artifact(markdown, key=key, description=description)


def publish_link(url: str, text: str, key: str) -> None:
    """Show a link as an artifact of this flow run, likewise."""
    if FlowRunContext.get() is not None:
        with _if_prefect_answers(key):
            create_link_artifact(url, link_text=text, key=key)


@contextmanager
def _if_prefect_answers(key: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever the server's trouble is, the work itself goes on
        logger.warning("Prefect was not shown the artifact %s: %s", key, error)


def completed(result: R, sentence: str) -> R:
    """Return what a flow returns so that its Completed state says `sentence`; who called the flow gets `result`."""
    return cast(R, Completed(data=result, message=sentence))
