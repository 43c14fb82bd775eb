"""`make ui` at another address than the default: without the passwords nobody gets in, with them everything works.

The address is a second one of the loopback, so that nothing leaves the machine.
"""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.service_stack import CHECKOUT, ServiceStack, start_stack, stopped_afterwards

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ADDRESS = "127.0.0.2"
USER = "keeper"
PREFECT_PASSWORD = "only-prefect-knows-this-one"
MLFLOW_PASSWORD = "only-mlflow-knows-this-one"
PASSWORDS = {
    "PREFECT_API_AUTH_STRING": f"{USER}:{PREFECT_PASSWORD}",
    "MLFLOW_TRACKING_USERNAME": USER,
    "MLFLOW_TRACKING_PASSWORD": MLFLOW_PASSWORD,
}
PREFECT_LOGIN = (USER, PREFECT_PASSWORD)
RUNS = "api/2.0/mlflow/runs/search"


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceStack]:
    """Yield a service stack with passwords."""
    stack = start_stack(tmp_path_factory.mktemp("protected") / "state", ADDRESS, DCGAN_LISTEN=ADDRESS, **PASSWORDS)
    with stopped_afterwards(stack):
        yield stack


@pytest.fixture(scope="module")
def smoke(protected: ServiceStack) -> str:
    """Return the id of a flow run that `prefect deployment run` saw complete on these servers."""
    protected.deploy()
    done = protected.run_prefect("deployment", "run", "dcgan/smoke", "--param", "source=bundled", "--watch")
    assert done.returncode == 0, done.stdout + done.stderr
    return re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", done.stdout)[0]


@pytest.mark.parametrize("password", [None, "a-password-that-is-wrong"])
def test_nobody_gets_in_without_the_password(protected: ServiceStack, password: str | None) -> None:
    """Both servers answer 401 to a request without a password or with a wrong one."""
    auth = (USER, password) if password else None
    assert httpx.post(f"{protected.prefect}/flow_runs/filter", json={}, auth=auth, timeout=30).status_code == 401
    assert httpx.post(f"{protected.mlflow}/{RUNS}", json={}, auth=auth, timeout=30).status_code == 401
    assert httpx.get(protected.mlflow, auth=auth, timeout=30).status_code == 401


def test_a_deployment_runs_with_the_passwords(protected: ServiceStack, smoke: str) -> None:
    """`make deploy` and the worker get in, and the training run that the worker starts is recorded."""
    flow_run = httpx.get(f"{protected.prefect}/flow_runs/{smoke}", auth=PREFECT_LOGIN, timeout=30)
    assert flow_run.json()["state_type"] == "COMPLETED"
    found = httpx.post(
        f"{protected.mlflow}/{RUNS}", json={"experiment_ids": ["1"]}, auth=(USER, MLFLOW_PASSWORD), timeout=30
    )
    (run,) = found.json()["runs"]
    assert run["info"]["status"] == "FINISHED"
    assert {"key": "prefect.flow_run_id", "value": smoke} in run["data"]["tags"]
    assert run["info"]["artifact_uri"].startswith("mlflow-artifacts:/")  # a worker elsewhere needs no folder


def test_pages_of_other_hosts_are_refused(protected: ServiceStack) -> None:
    """The servers' own pages may use them, under the machine's name too. Those of another host may not."""
    own = protected.mlflow
    for origin, allowed in ((own, True), ("http://example.org", False)):
        answer = httpx.post(
            f"{own}/{RUNS}", json={}, auth=(USER, MLFLOW_PASSWORD), headers={"Origin": origin}, timeout=30
        )
        assert (answer.status_code != 403) is allowed
    port = urlsplit(protected.prefect).port
    for host in (ADDRESS, platform.node(), "127.0.0.1"):
        headers = {"Host": f"{host}:{port}", "Origin": f"http://{host.lower()}:{port}"}
        answer = httpx.get(f"{protected.prefect}/admin/version", auth=PREFECT_LOGIN, headers=headers, timeout=30)
        assert answer.is_success
    for headers, status in (({"Origin": "http://example.org"}, 403), ({"Host": f"example.org:{port}"}, 400)):
        answer = httpx.get(f"{protected.prefect}/admin/version", auth=PREFECT_LOGIN, headers=headers, timeout=30)
        assert answer.status_code == status


@pytest.mark.usefixtures("smoke")
def test_the_passwords_cannot_be_read_anywhere(protected: ServiceStack) -> None:
    """No command line and no file of the state folder contains one; only its user may open the folder of MLflow's."""
    secrets = [PREFECT_PASSWORD.encode(), MLFLOW_PASSWORD.encode()]
    texts = {}
    for process in (psutil.Process(), *protected.processes()):
        with suppress(psutil.NoSuchProcess):  # a flow run's may end meanwhile
            texts[f"process {process.pid}"] = " ".join(process.cmdline()).encode()
    for path in protected.state.rglob("*"):
        with suppress(FileNotFoundError):  # a temporary one may be removed meanwhile
            if path.is_file():
                texts[path.name] = path.read_bytes()
    assert texts.keys() >= {"prefect.log", "mlflow.log", "worker-cpu.log", "mlflow.ini"}
    assert [(where, text[:200]) for where, text in texts.items() if any(secret in text for secret in secrets)] == []
    assert (protected.state / "access").stat().st_mode & 0o777 == 0o700


def test_only_that_address_is_listened_on(protected: ServiceStack) -> None:
    """The servers listen at the configured address and at no other; the workers' own ports stay on 127.0.0.1."""
    listening = [
        ("operations.worker" in process.cmdline(), connection.laddr.ip)
        for process in protected.processes()
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert sorted(ip for is_worker, ip in listening if not is_worker) == [ADDRESS, ADDRESS]
    assert {ip for is_worker, ip in listening if is_worker} == {"127.0.0.1"}


def test_another_password_is_one_sentence(protected: ServiceStack) -> None:
    """MLflow keeps the password of its first start; another one is reported before a training run fails for it."""
    program = "from operations.servers import ServerSettings, require_mlflow_login; "
    done = subprocess.run(
        [sys.executable, "-c", f"{program} require_mlflow_login(ServerSettings())"],
        cwd=CHECKOUT,
        env={**os.environ, **protected.environment, "MLFLOW_TRACKING_PASSWORD": "a-password-that-is-wrong"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.splitlines()[-1].removeprefix("dcgan.errors.ConfigurationError: ") == (
        f"MLflow's server at {protected.mlflow} refuses MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; "
        f"expected those of its first start, which it keeps in {protected.state / 'access'}."
    )
