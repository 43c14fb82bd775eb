"""The automations of automations.yaml on Prefect's server: each there once, by its name, as the file has it."""

from pathlib import Path
from typing import Any

import httpx
import yaml
from prefect.events.schemas.automations import AutomationCore
from pydantic import TypeAdapter

from operations.access import prefect_api
from operations.addresses import ServerSettings
from tasks.settings import CHECKOUT

AUTOMATIONS_FILE = CHECKOUT / "automations.yaml"


def read_automations(path: Path = AUTOMATIONS_FILE) -> list[AutomationCore]:
    """Return the automations of a file."""
    return TypeAdapter(list[AutomationCore]).validate_python(yaml.safe_load(path.read_text()))


def apply_automations(settings: ServerSettings, automations: list[AutomationCore]) -> None:
    """Create the automations that are not there, and make the others equal to these; those of other names stay.

    Raises:
        httpx.HTTPError: the server does not answer, or refuses one.
    """
    names = [automation.name for automation in automations]
    with prefect_api(settings) as api:
        ids = _ids_by_name(api, names)
        for automation in automations:
            body = automation.model_dump(mode="json", exclude={"owner_resource"})  # which PUT does not take
            if automation.name in ids:
                api.put(f"/automations/{ids[automation.name]}", json=body)
            else:
                api.post("/automations/", json=body)


def _ids_by_name(api: httpx.Client, names: list[str]) -> dict[str, str]:
    wanted: dict[str, Any] = {"automations": {"name": {"any_": names}}}
    found = api.post("/automations/filter", json=wanted)
    return {each["name"]: each["id"] for each in found.json()}
