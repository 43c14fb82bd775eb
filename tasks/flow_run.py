"""The Prefect flow run that this code runs in: its id, its tags, its seed, and how often it may start."""

from itertools import pairwise
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.settings import PREFECT_UI_URL

from dcgan.errors import ConfigurationError
from tracking.tags import FLOW_RUN_ID, FLOW_RUN_URL, PARENT_RUN, TRIAL

MAX_CRASHES = 3
STOPPED = "Execution was aborted by a termination signal."  # Prefect's message for a flow run that got SIGTERM


def require_starts_left() -> None:
    """Refuse a flow run that crashed each time it was started: automations would start it again for ever.

    One that was stopped, as by the end of its worker, did not crash, though Prefect calls it so.

    Raises:
        ConfigurationError: It has crashed more than three times.
    """
    with get_client(sync_client=True) as client:
        states = sorted(client.read_flow_run_states(UUID(flow_run.id)), key=lambda state: state.timestamp)
    crashes = sum(
        after.is_crashed() and not before.is_crashed() and after.message != STOPPED
        for before, after in pairwise(states)
    )
    if crashes > MAX_CRASHES:
        raise ConfigurationError(
            f"The flow run {flow_run.name} crashed {crashes} times; expected at most {MAX_CRASHES} crashes: look into "
            "its logs, then start a new flow run with the same seed, which resumes from the last epoch."
        )


def flow_run_id() -> str | None:
    """Return the flow run's id, None outside of one."""
    return flow_run.id or None


def flow_run_tags() -> dict[str, str]:
    """Return the tags that link an MLflow run to this flow run, and a trial's to its sweep."""
    # a sweep says by the flow run's tags whose trial it is: a parameter would be part of everybody's form
    given = dict(tag.split("=", 1) for tag in flow_run.tags or [] if tag.startswith((f"{PARENT_RUN}=", f"{TRIAL}=")))
    page = flow_run.ui_url if PREFECT_UI_URL.value() else None  # a private server has no pages
    tags = {FLOW_RUN_ID: flow_run.id, FLOW_RUN_URL: page, **given}
    return {name: value for name, value in tags.items() if value}


def choose_seed(seed: int | None) -> int:
    """Return the seed, or one derived from the flow run: its retries continue the same training run."""
    return seed if seed is not None else UUID(str(flow_run.id)).int % 2**31
