"""TLS at the door: the proxy's rules with a certificate, and a worker with the variables of deploy/compose.yaml."""

import shutil
from pathlib import Path

import pytest
import yaml

from operations.servers import LOOPBACK
from operations.stack import FILES, render
from tests.service_stack import CHECKOUT, ServiceStack, wait_until
from tests.stack.machines import Machines
from tests.web import make_certificate

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

HOST = LOOPBACK[0]


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Return a certificate for loopback, and its key."""
    return make_certificate(tmp_path)


def proxy_with_tls(machines: Machines, folder: Path, certificate: Path, key: Path) -> list[str]:
    """Return the command line of the proxy as compose.yaml configures it, in front of the running stack."""
    (folder / "tls").mkdir(parents=True)
    tls = (FILES / "tls.conf").read_text()
    for name, path in (("tls-certificate", certificate), ("tls-key", key)):
        tls = tls.replace(f"/run/secrets/{name};", f"{path};")
    (folder / "tls" / "tls.conf").write_text(tls)
    prefect, mlflow = machines.ports["PREFECT_API_URL"], machines.ports["MLFLOW_TRACKING_URI"]
    values = {
        "PREFECT_SERVER_1": f"unix:{machines.socket(prefect)}",
        "PREFECT_SERVER_2": f"unix:{machines.socket(prefect)}",
        "MLFLOW_SERVER": f"unix:{machines.socket(mlflow)}",
        "PREFECT_LISTEN": f"{HOST}:{prefect} ssl",
        "MLFLOW_LISTEN": f"{HOST}:{mlflow} ssl",
        "PROXY_NAMES": HOST,
        "PROXY_USER": "root",
        "PROXY_FOLDER": str(folder),
        "PROXY_TLS_FOLDER": str(folder / "tls"),
    }
    (folder / "nginx.conf").write_text(render((FILES / "nginx.conf.template").read_text(), values))
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    assert nginx
    return [nginx, "-e", "stderr", "-g", "daemon off;", "-c", str(folder / "nginx.conf")]


def test_a_worker_trains_behind_tls(
    team: ServiceStack, machines: Machines, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    """It trusts the certificate by the variables that compose.yaml names, and no other way leads to the servers."""
    if not machines.isolated:
        pytest.skip("this user may not make network namespaces")
    machines.network("secure", proxy_with_tls(machines, tmp_path / "proxy", *certificate))
    worker = yaml.safe_load((CHECKOUT / "deploy" / "compose.yaml").read_text())["x-worker"]["environment"]
    trusted = {name: str(certificate[0]) for name, value in worker.items() if value == "/run/secrets/tls-ca"}
    addresses = {
        "PREFECT_API_URL": team.prefect.replace("http:", "https:"),
        "MLFLOW_TRACKING_URI": team.mlflow.replace("http:", "https:"),
    }
    service = machines.start("secure", **addresses, **trusted)

    (deployment,) = [each for each in team.find("deployments") if each["name"] == "smoke"]
    parameters = {"recipe": "smoke", "source": "bundled", "seed": 11}
    flow_run = team.ask(f"deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})["id"]
    wait_until(
        "the end of the flow run", lambda: team.ask(f"flow_runs/{flow_run}")["state_type"] in ("COMPLETED", "FAILED")
    )
    assert team.ask(f"flow_runs/{flow_run}")["state_type"] == "COMPLETED", service.log.read_text()
    logged = team.ask("logs/filter", {"logs": {"flow_run_id": {"any_": [flow_run]}}})
    assert any("Epoch 2 of 2" in each["message"] for each in logged)
