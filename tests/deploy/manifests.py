"""The manifests of deploy/kubernetes, parsed, and what to look for in them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = CHECKOUT / "deploy" / "kubernetes"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
TEMPLATE: dict[str, Any] = json.loads((FOLDER / "base-job-template.json").read_text())
CHART_VALUES: dict[str, Any] = yaml.safe_load((FOLDER / "prefect-server-values.yaml").read_text())
OBJECTS: dict[str, dict[str, Any]] = {
    f"{each['kind']}/{each['metadata']['name']}": each
    for file in KUSTOMIZATION["resources"]
    for each in yaml.safe_load_all((FOLDER / file).read_text())
}
PODS: dict[str, dict[str, Any]] = {
    name: each["spec"]["template"] for name, each in OBJECTS.items() if each["kind"] == "Deployment"
} | {"flow run": TEMPLATE["job_configuration"]["job_manifest"]["spec"]["template"]}


def of_kind(kind: str) -> set[str]:
    """Return the names of the objects of a kind."""
    return {each["metadata"]["name"] for each in OBJECTS.values() if each["kind"] == kind}


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a pod's containers, those that only prepare it too."""
    return pod["spec"].get("initContainers", []) + pod["spec"]["containers"]


def found(value: Any, key: str) -> Iterator[Any]:
    """Yield what stands under a key, at whatever depth."""
    if isinstance(value, dict):
        if key in value:
            yield value[key]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from found(each, key)
