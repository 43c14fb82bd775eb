"""automations.yaml and notifications.yaml: nothing in them is silently ignored, and silence fits the heartbeats."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger
from pydantic import BaseModel

from operations.deploy import AUTOMATIONS_FILE, NOTIFICATIONS_FILE, read_automations, read_notifications
from operations.servers import ServerSettings, worker_environment

ACTIONS: dict[str, type[BaseModel]] = {
    "change-flow-run-state": ChangeFlowRunState,
    "send-notification": SendNotification,
}
REACTIONS: list[dict[str, Any]] = yaml.safe_load(AUTOMATIONS_FILE.read_text())
WRITTEN: list[dict[str, Any]] = [*REACTIONS, *yaml.safe_load(NOTIFICATIONS_FILE.read_text())]


def named(automation: dict[str, Any]) -> str:
    """Return the name of an automation as that of a test."""
    return str(automation["name"])


each_automation = pytest.mark.parametrize("automation", WRITTEN, ids=named)


def unknown(keys: dict[str, Any], model: type[BaseModel]) -> set[str]:
    """Return the keys that `model` would ignore."""
    return set(keys) - model.model_fields.keys()


def test_there_are_automations() -> None:
    """The checks below have something to check."""
    assert (len(REACTIONS), len(WRITTEN)) == (3, 6)
    assert [each.name for each in read_automations()] == [each["name"] for each in REACTIONS]
    assert [len(each.actions) for each in read_notifications(uuid4())] == [1, 1, 1]


@each_automation
def test_every_key_is_known(automation: dict[str, Any]) -> None:
    """Prefect silently ignores a misspelt key; here it fails, in the trigger and the actions too."""
    assert unknown(automation, AutomationCore) == set()
    assert unknown(automation["trigger"], EventTrigger) == set()
    assert [unknown(action, ACTIONS[action["type"]]) for action in automation["actions"]] == [set()]


@pytest.mark.parametrize("automation", REACTIONS, ids=named)
def test_only_flow_runs_of_this_project_are_touched(automation: dict[str, Any]) -> None:
    """On a server that others use too, their flow runs are left alone."""
    assert automation["trigger"]["match"] == {"prefect.resource.id": "prefect.flow-run.*"}
    related = automation["trigger"]["match_related"]
    flow, *_ = related if isinstance(related, list) else [related]
    assert flow == {"prefect.resource.role": "flow", "prefect.resource.name": ["dcgan", "dcgan-sweep"]}


def test_only_what_was_running_is_scheduled_again() -> None:
    """A flow run that cannot even start would crash for ever."""
    (again,) = [each for each in read_automations() if "a crashed flow run" in each.name]
    assert isinstance(again.trigger, EventTrigger)
    assert again.trigger.after == {"prefect.flow-run.Running", "prefect.flow-run.Retrying"}
    assert again.trigger.within.days == 30


def test_names_are_unique() -> None:
    """An automation is found again by its name."""
    assert len({automation["name"] for automation in WRITTEN}) == len(WRITTEN)


def test_three_heartbeats_fit_into_the_silence(state: Path) -> None:
    """A live flow run may miss three heartbeats before it is taken for dead."""
    heartbeat = int(worker_environment(ServerSettings(DCGAN_STATE=state))["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
    (silent,) = [each for each in read_automations() if "silent" in each.name]
    assert isinstance(silent.trigger, EventTrigger)
    assert silent.trigger.within.total_seconds() >= 4 * heartbeat
