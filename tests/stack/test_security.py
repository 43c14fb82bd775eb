"""Who gets in: nobody without a password, nobody under another name, and nobody from another machine."""

import json
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import yaml

from tests.service_stack import CHECKOUT, ServiceStack, free_port, wait_until
from tests.stack.processes import process_of

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]


def test_nobody_gets_in_without_a_password(team: ServiceStack) -> None:
    """Both servers answer 401 behind the proxy, to a wrong password too, and so do their metrics."""
    for auth in (None, ("dcgan", "a-password-that-is-wrong")):
        assert httpx.post(f"{team.prefect}/flow_runs/filter", json={}, auth=auth).status_code == 401
        assert httpx.get(f"{team.prefect}/metrics", auth=auth).status_code == 401
        assert httpx.get(f"{team.mlflow}/metrics", auth=auth).status_code == 401
        assert httpx.post(f"{team.mlflow}/api/2.0/mlflow/runs/search", json={}, auth=auth).status_code == 401


def test_prometheus_reads_both_servers(team: ServiceStack, tmp_path: Path) -> None:
    """A real one, with the paths and passwords of prometheus.yml, finds both up and stores what they measure."""
    settings = yaml.safe_load((CHECKOUT / "deploy" / "compose" / "prometheus.yml").read_text())
    settings["global"]["scrape_interval"] = "1s"
    passwords = {
        "prefect": team.environment["PREFECT_API_AUTH_STRING"].partition(":")[2],
        "mlflow": team.environment["MLFLOW_TRACKING_PASSWORD"],
    }
    addresses = {"prefect": team.prefect, "mlflow": team.mlflow}
    for job in settings["scrape_configs"]:
        file = tmp_path / Path(job["basic_auth"]["password_file"]).name
        file.write_text(passwords[job["job_name"]])
        job["basic_auth"]["password_file"] = str(file)
        job["static_configs"] = [{"targets": [urlsplit(addresses[job["job_name"]]).netloc]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(settings))
    url = f"http://127.0.0.1:{free_port()}"
    options = {
        "config.file": tmp_path / "prometheus.yml",
        "storage.tsdb.path": tmp_path / "data",
        "web.listen-address": url.removeprefix("http://"),
    }
    command = ["prometheus", *(f"--{name}={value}" for name, value in options.items())]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as prometheus:

        def found(query: str) -> dict[str, str]:
            answer = httpx.get(f"{url}/api/v1/query", params={"query": query}).raise_for_status().json()
            return {each["metric"]["job"]: each["value"][1] for each in answer["data"]["result"]}

        try:
            wait_until("both servers", lambda: found("up") == {"prefect": "1", "mlflow": "1"})
            assert found('count by (job) ({__name__=~"prefect_.+|mlflow_.+"})').keys() == {"prefect", "mlflow"}
        finally:
            prometheus.terminate()


def test_another_name_leads_nowhere(team: ServiceStack) -> None:
    """A name that a hostile site lets lead to this machine is answered by 421, whatever is asked."""
    for url in (team.prefect, team.mlflow):
        assert httpx.get(f"{url}/health", headers={"Host": "rebound.example"}).status_code == 421


def test_only_loopback_is_listened_on(team: ServiceStack) -> None:
    """No port of the whole stack can be reached from another machine."""
    listening = [
        connection.laddr.ip
        for process in team.processes()
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) > 12
    assert set(listening) == {"127.0.0.1"}


def test_no_command_line_or_log_has_a_password(team: ServiceStack) -> None:
    """Other users can read command lines, and logs are shown to others."""
    passwords = json.loads((team.state / "stack" / "passwords.json").read_text())
    del passwords["bucket_key"]  # the id of a key, which every signed address shows
    assert len(passwords) > 4
    texts = {str(process.pid): " ".join(process.cmdline()) for process in team.processes()}
    texts |= {path.name: path.read_text(errors="replace") for path in (team.state / "logs" / "stack").iterdir()}
    assert texts.keys() >= {"postgres.log", "redis.log", "bucket.log", "mlflow.log", "prefect-1.log", "proxy.log"}
    assert [name for name, text in texts.items() if any(password in text for password in passwords.values())] == []


def test_the_health_check_of_the_background_services(team: ServiceStack) -> None:
    """What compose.yaml asks of them succeeds while they live."""
    services = yaml.safe_load((CHECKOUT / "deploy" / "compose.yaml").read_text())["services"]
    _, *command = services["prefect-services"]["healthcheck"]["test"]
    process = process_of(team, "services")
    subprocess.run([process.cmdline()[0], *command[1:]], env=process.environ(), check=True)
