"""prefect.yaml: nothing in it is silently ignored, and every deployment fits its flow."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.cli.deploy._models import (
    DeploymentConfig,
    PrefectYamlModel,
    RawScheduleConfig,
    WorkPoolConfig,
)
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments import steps
from prefect.flows import load_flow_from_entrypoint
from prefect.workers.process import ProcessVariables
from pydantic import BaseModel

from operations.deploy import ONE_AT_A_TIME
from operations.servers import POOLS

CHECKOUT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = yaml.safe_load((CHECKOUT / "prefect.yaml").read_text())
DEPLOYMENTS: dict[str, dict[str, Any]] = {each["name"]: each for each in PROJECT["deployments"]}

each_deployment = pytest.mark.parametrize("deployment", DEPLOYMENTS.values(), ids=DEPLOYMENTS.keys())


def unknown(keys: dict[str, Any], model: type[BaseModel]) -> set[str]:
    """Return the keys that `model` would ignore."""
    return set(keys) - {field.alias or name for name, field in model.model_fields.items()}


def flow_of(deployment: dict[str, Any]) -> Flow[..., Any]:
    """Return the flow that a deployment runs."""
    return load_flow_from_entrypoint(str(CHECKOUT / deployment["entrypoint"]))


def test_deployments_are_the_documented_ones() -> None:
    """The names that README and scripts use exist, each once."""
    names = [f"{flow_of(deployment).name}/{deployment['name']}" for deployment in PROJECT["deployments"]]
    assert len(set(names)) == len(names)
    assert {"dcgan/train", "dcgan/retrain", "dcgan/smoke"} <= set(names)


def test_top_level_keys_are_known() -> None:
    """Prefect silently ignores a misspelt key of prefect.yaml; here it fails."""
    assert unknown(PROJECT, PrefectYamlModel) == set()
    assert unknown({"deployment": []}, PrefectYamlModel) == {"deployment"}


@each_deployment
def test_deployment_keys_are_known(deployment: dict[str, Any]) -> None:
    """A misspelt key of a deployment, its work pool, a schedule or its job variables fails too."""
    assert unknown(deployment, DeploymentConfig) == set()
    assert unknown(deployment["work_pool"], WorkPoolConfig) == set()
    assert unknown(deployment["work_pool"].get("job_variables", {}), ProcessVariables) == set()
    for schedule in deployment.get("schedules", []):
        assert unknown(schedule, RawScheduleConfig) == set()


def test_pull_steps_exist_and_name_no_machine() -> None:
    """The steps are Prefect's own, and the worker decides where the checkout is."""
    names = [name for step in PROJECT["pull"] for name in step]
    assert names == ["prefect.deployments.steps.set_working_directory"]
    assert hasattr(steps, names[0].rsplit(".", 1)[1])
    assert PROJECT["pull"][0][names[0]] == {"directory": "{{ $DCGAN_HOME }}"}


@each_deployment
def test_parameters_fit_the_flow(deployment: dict[str, Any]) -> None:
    """The parameters are the flow's own, and its validation accepts them."""
    flow = flow_of(deployment)
    parameters = deployment.get("parameters", {})
    assert set(parameters) <= set(flow.parameters.properties)
    assert flow.validate_parameters(parameters).items() >= parameters.items()


@each_deployment
def test_work_pool_is_one_that_has_a_worker(deployment: dict[str, Any]) -> None:
    """`make deploy` creates the pool, and `make ui` starts a worker for it."""
    assert deployment["work_pool"]["name"] in POOLS


def test_retraining_is_weekly_in_a_timezone_and_one_at_a_time() -> None:
    """The scheduled deployment has one weekly cron with a slug, so that deploying again replaces it."""
    retrain = DEPLOYMENTS["retrain"]
    (schedule,) = retrain["schedules"]
    assert CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"]).timezone
    assert schedule["slug"]
    minute, hour, day, month, weekday = schedule["cron"].split()
    assert (day, month) == ("*", "*")
    assert minute.isdigit()
    assert hour.isdigit()
    assert weekday.isdigit()
    assert (retrain["work_pool"]["name"], retrain["work_pool"]["work_queue_name"]) in ONE_AT_A_TIME


@each_deployment
def test_no_deployment_has_a_concurrency_limit(deployment: dict[str, Any]) -> None:
    """Such a limit would cancel a training run whose Prefect server is unreachable for some minutes."""
    assert "concurrency_limit" not in deployment
