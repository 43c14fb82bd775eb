"""Put a registered generator into service by hand, or go back to the one before."""

import sys

from prefect import flow
from rich.console import Console

from flows.command import CommandFlags, run_flow
from flows.parameters import PromoteParameters, takes
from tasks.artifacts import completed
from tasks.promote import promote_version, roll_back
from tasks.promotion import Promotion, one_at_a_time


@flow(name="dcgan-promote")
@takes(PromoteParameters)
def dcgan_promote(parameters: PromoteParameters) -> Promotion:
    """Make a version the champion if its verdict allows it, or make the previous champion the champion again."""
    with one_at_a_time():
        number = parameters.version
        promotion = roll_back() if number is None else promote_version(number, force=parameters.force)
    return completed(promotion, promotion.reason)


class PromoteCommand(CommandFlags, PromoteParameters):
    """Make a version the champion, or go back to the one before."""


def main(arguments: list[str]) -> int:
    """Promote in this process and return the exit code."""
    return run_flow(PromoteCommand, "python -m flows.promote", arguments, _promote)


def _promote(command: PromoteCommand) -> None:
    promotion = dcgan_promote(**command.model_dump(exclude={"debug"}))
    Console(soft_wrap=True).print(promotion.reason)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
