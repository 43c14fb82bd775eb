"""Put a registered generator into service by hand, or return to the one before."""

import runpy
import sys

from prefect import flow
from prefect.runtime import flow_run

from dcgan.errors import ConfigurationError
from flows.parameters import Positive
from tasks.results import Promotion
from tasks.settings import Settings, quiet_imports


def _flow_run_name() -> str:
    version, rollback = (flow_run.parameters.get(name) for name in ("version", "rollback"))
    return "roll-back" if rollback else f"promote-{version}" if version else "promote"


@flow(name="dcgan-promote", flow_run_name=_flow_run_name)
def dcgan_promote(*, version: Positive | None = None, rollback: bool = False, force: bool = False) -> Promotion:
    """Make a version the champion if its verdict allows it, or make the previous champion the champion again.

    Args:
        version: Number of the version that becomes the champion.
        rollback: Make the previous champion the champion again, and the champion the previous one.
        force: Promote the version whatever its verdict is; this is recorded.
    """
    check(version, rollback=rollback, force=force)
    with quiet_imports():
        from tasks.context import open_context
        from tasks.prefect_ui import completed
        from tasks.promote import promote_version, promotion_lock, roll_back

    settings = Settings.read()
    context = open_context(settings)
    with promotion_lock(settings):
        promotion = roll_back(context) if version is None else promote_version(context, version, force=force)
    return completed(promotion, promotion.reason)


def check(version: int | None = None, *, rollback: bool = False, force: bool = False) -> None:
    """Refuse parameters that contradict one another.

    Raises:
        ConfigurationError: They are not a version or a rollback, or `force` goes with a rollback.
    """
    if (version is None) is not rollback:
        raise ConfigurationError("Expected one of the two: --version with a number, or --rollback.")
    if force and rollback:
        raise ConfigurationError("--force goes with --version; a rollback does not need it.")


def show(promotion: Promotion) -> None:
    """Print the result."""
    sys.stdout.write(f"{promotion.reason}\n")


if __name__ == "__main__":
    sys.argv[1:1] = ["promote"]
    runpy.run_module("flows.cli", run_name="__main__")
