"""The Prefect flow run that this code runs in: its tags, its seed, and how often it may be started."""

from uuid import UUID

from dcgan.errors import ConfigurationError

FLOW_RUN_ID = "prefect.flow_run_id"
MAX_STARTS = 4  # the first, and three after crashes


def require_starts_left() -> None:
    """Refuse a flow run that crashed as often as it was started: automations would start it again for ever.

    Raises:
        ConfigurationError: it has been started more than four times.
    """
    from prefect.runtime import flow_run

    if (starts := flow_run.run_count or 0) > MAX_STARTS:
        raise ConfigurationError(
            f"The flow run {flow_run.name} crashed {starts - 1} times; expected at most {MAX_STARTS - 1} crashes: "
            "look into its logs, then start a new flow run, which goes on from the last epoch."
        )


def flow_run_id() -> str | None:
    """Return the flow run's id, None outside of one."""
    from prefect.runtime import flow_run

    return flow_run.id or None


def flow_run_tags() -> dict[str, str]:
    """Return the tags that link an MLflow run to the Prefect flow run that this code runs in."""
    from prefect.runtime import flow_run

    tags = {FLOW_RUN_ID: flow_run.id, "prefect.flow_run_url": flow_run.ui_url}
    return {name: value for name, value in tags.items() if value}


def choose_seed(seed: int | None) -> int:
    """Return the seed, or one that belongs to the flow run: its retries are the same training."""
    from prefect.runtime import flow_run

    return seed if seed is not None else UUID(str(flow_run.id)).int % 2**31
