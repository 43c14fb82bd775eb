"""`make ui` and `make deploy` for real: servers, workers, deployments, and how they end."""

import signal
import time
from pathlib import Path

import httpx
import psutil
import pytest

from operations.automations import read_automations
from tests.desk import Desk, start_desk

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

DEPLOYMENTS = {"train", "retrain", "smoke"}


def test_everything_answers_and_has_a_worker(desk: Desk) -> None:
    """Both servers answer, and each pool has a worker that lives."""
    assert httpx.get(f"{desk.prefect}/health").json() is True
    assert httpx.get(f"{desk.mlflow}/health").text == "OK"
    for pool in ("gpu", "cpu"):
        workers = desk.find(f"work_pools/{pool}/workers")
        assert [worker["status"] for worker in workers] == ["ONLINE"]
        assert httpx.get(f"{desk.prefect}/work_pools/{pool}").json()["type"] == "process"


def test_only_loopback_is_listened_on(desk: Desk) -> None:
    """No server or worker can be reached from another machine."""
    listening = [
        connection.laddr.ip
        for process in desk.family()
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 2
    assert set(listening) == {"127.0.0.1"}


def test_deploying_again_changes_nothing(desk: Desk) -> None:
    """Every deployment and automation is there once after the first and after the second time."""
    desk.deploy()
    first = {each["id"]: each["name"] for each in desk.find("deployments")}
    desk.deploy()
    deployments = desk.find("deployments")
    assert {each["id"]: each["name"] for each in deployments} == first
    assert set(first.values()) >= DEPLOYMENTS
    (retrain,) = [each for each in deployments if each["name"] == "retrain"]
    assert [schedule["schedule"]["timezone"] for schedule in retrain["schedules"]] == ["Etc/UTC"]
    assert retrain["global_concurrency_limit"] is None
    assert {each["name"]: each["concurrency_limit"] for each in desk.find("work_queues")}["retrain"] == 1
    assert {each["name"] for each in desk.find("work_pools")} >= {"gpu", "cpu"}
    written = [(each.name, True) for each in read_automations()]
    assert sorted((each["name"], each["enabled"]) for each in desk.find("automations")) == sorted(written)


def test_a_server_that_dies_ends_everything(desk: Desk) -> None:
    """When one process dies it is named, and the others end, flow runs, servers and workers alike."""
    family = desk.family()
    (server,) = [process for process in family if "mlflow" in process.cmdline() and "server" in process.cmdline()]
    server.kill()
    assert desk.process.stdout is not None
    said = desk.process.stdout.read()
    assert desk.process.wait(120) == 1
    assert said.splitlines()[-1] == (
        f"error: mlflow ended with exit code -9; its last words are in {desk.state / 'logs' / 'mlflow.log'}."
    )
    assert [process for process in family if process.is_running()] == []


def test_a_signal_while_starting_ends_everything(tmp_path: Path) -> None:
    """Ctrl-C before the servers answer leaves no process behind, and is no failure."""
    desk = start_desk(tmp_path / "state")
    while len(family := desk.family()) < 2:
        assert desk.process.poll() is None
        time.sleep(0.05)
    desk.process.send_signal(signal.SIGINT)
    assert desk.process.wait(120) == 0
    assert [process for process in family if process.is_running()] == []
