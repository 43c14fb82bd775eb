"""`make ui` and `make deploy` for real: servers, workers, deployments, and how they end."""

import signal
import time
from pathlib import Path

import httpx
import psutil
import pytest

from operations.deploy import read_automations
from tests.service_stack import ServiceStack, start_stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

DEPLOYMENTS = {"train", "retrain", "smoke"}


def test_servers_answer_and_every_pool_has_a_worker(stack: ServiceStack) -> None:
    """Both servers answer, and each pool has one worker, which is online."""
    assert httpx.get(f"{stack.prefect}/health").json() is True
    assert httpx.get(f"{stack.mlflow}/health").text == "OK"
    for pool in ("gpu", "cpu"):
        workers = stack.find(f"work_pools/{pool}/workers")
        assert [worker["status"] for worker in workers] == ["ONLINE"]
        assert httpx.get(f"{stack.prefect}/work_pools/{pool}").json()["type"] == "process"


def test_prefects_pages_use_their_own_server(stack: ServiceStack) -> None:
    """Prefect's server serves its pages, which ask the API at the address at which the browser opened them."""
    pages = stack.prefect.removesuffix("/api")
    assert '<div id="app">' in httpx.get(pages, headers={"Accept": "text/html"}).raise_for_status().text
    assert httpx.get(f"{pages}/ui-settings").raise_for_status().json()["api_url"] == "/api"


def test_pages_of_other_sites_are_refused(stack: ServiceStack) -> None:
    """MLflow's server refuses a foreign host, which DNS rebinding leads to it, and requests of foreign pages."""
    url = f"{stack.mlflow}/api/2.0/mlflow/experiments/search"
    statuses = [
        httpx.post(url, json={"max_results": 1}, headers=headers, timeout=30).status_code
        for headers in ({"Origin": stack.mlflow}, {"Origin": "http://evil.example"}, {"Host": "rebound.example:5000"})
    ]
    assert statuses == [200, 403, 403]


def test_only_loopback_is_listened_on(stack: ServiceStack) -> None:
    """No server or worker can be reached from another machine."""
    listening = [
        connection.laddr.ip
        for process in stack.processes()
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 2
    assert set(listening) == {"127.0.0.1"}


def test_deploying_again_changes_nothing(stack: ServiceStack) -> None:
    """Every deployment and automation exists once after the first and after the second time."""
    stack.deploy()
    first = {each["id"]: each["name"] for each in stack.find("deployments")}
    stack.deploy()
    deployments = stack.find("deployments")
    assert {each["id"]: each["name"] for each in deployments} == first
    assert set(first.values()) >= DEPLOYMENTS
    (retrain,) = [each for each in deployments if each["name"] == "retrain"]
    assert [schedule["schedule"]["timezone"] for schedule in retrain["schedules"]] == ["Etc/UTC"]
    assert retrain["global_concurrency_limit"] is None
    assert {each["name"]: each["concurrency_limit"] for each in stack.find("work_queues")}["retrain"] == 1
    assert {each["name"] for each in stack.find("work_pools")} >= {"gpu", "cpu"}
    expected = [(each.name, True) for each in read_automations()]
    assert sorted((each["name"], each["enabled"]) for each in stack.find("automations")) == sorted(expected)


def test_the_scheduler_runs(stack: ServiceStack) -> None:
    """Prefect's server has its background services: flow runs of the weekly deployment get scheduled."""
    stack.deploy()
    deadline = time.monotonic() + 120
    while not (scheduled := stack.find("flow_runs")):
        assert time.monotonic() < deadline
        time.sleep(1)
    assert {each["state_type"] for each in scheduled} == {"SCHEDULED"}
    assert {each["auto_scheduled"] for each in scheduled} == {True}


def test_a_server_that_dies_stops_everything(stack: ServiceStack) -> None:
    """If one process dies it is named, and all others are stopped, flow runs, servers and workers alike."""
    processes = stack.processes()
    (server,) = [process for process in processes if {"mlflow", "server"} <= set(process.cmdline())]
    server.kill()
    assert stack.process.stdout is not None
    output = stack.process.stdout.read()
    assert stack.process.wait(120) == 1
    log = stack.state / "logs" / "mlflow.log"
    assert output.splitlines()[-1] == f"error: mlflow ended with exit code -9; its log is {log}."
    assert [process for process in processes if process.is_running()] == []


def test_a_signal_during_the_start_stops_everything(tmp_path: Path) -> None:
    """Ctrl-C before the servers answer leaves no process behind, and is not a failure."""
    stack = start_stack(tmp_path / "state")
    while len(processes := stack.processes()) < 2:
        assert stack.process.poll() is None
        time.sleep(0.05)
    stack.process.send_signal(signal.SIGINT)
    stack.process.communicate(timeout=120)
    assert stack.process.returncode == 0
    assert [process for process in processes if process.is_running()] == []
