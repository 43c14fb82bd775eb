"""deploy/compose.yaml, parsed: what it promises, and that `make stack` runs the same with the same settings."""

import os
import re
import shutil
import subprocess
from configparser import ConfigParser
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.settings.models.root import Settings as PrefectSettings

from operations import stack

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = CHECKOUT / "deploy"
TEXT = (FOLDER / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = "dcgan:0.1.0"
JOBS = {"prefect-migration", "mlflow-preparation", "deploy"}
SECRETS = re.compile(r"PASSWORD|SECRET|_KEY\b|FORMS", re.IGNORECASE)

each_service = pytest.mark.parametrize("name", sorted(SERVICES))
each_running = pytest.mark.parametrize("name", sorted(SERVICES.keys() - JOBS))


def test_no_password_has_a_default() -> None:
    """Every value from outside has to be given, apart from the address to listen at."""
    values = re.findall(r"(?<!\$)\$\{(\w+)([^}]*)\}", TEXT)
    assert len({name for name, _ in values}) > 10
    assert {name for name, rule in values if rule != ":?"} == {"DCGAN_LISTEN"}
    settings = {
        name: str(value)
        for service in SERVICES.values()
        for name, value in (service.get("environment") or {}).items()
        if SECRETS.search(name)
    }
    assert len(settings) >= 8
    files = ("MLFLOW_AUTH_CONFIG_PATH",)
    assert [name for name, value in settings.items() if name not in files and ":?}" not in value] == []


def test_the_example_names_every_variable() -> None:
    """The lines of docs/team-stack.md that make .env give every variable that has no default."""
    required = {name for name, rule in re.findall(r"(?<!\$)\$\{(\w+)([^}]*)\}", TEXT) if rule == ":?"}
    document = (CHECKOUT / "docs" / "team-stack.md").read_text()
    assert set(re.findall(r"^(?:echo )?([A-Z][A-Z_]+)=", document, flags=re.MULTILINE)) == required


@each_running
def test_what_runs_has_a_health_check_and_starts_again(name: str) -> None:
    """Compose knows of each long-running service whether it is well, and starts it again when it ends."""
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["init"] is True
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert service["healthcheck"]["start_period"]


@each_service
def test_images_are_pinned_and_confined(name: str) -> None:
    """Each image has a version; no service may write into its image, and most have none of root's rights."""
    service = SERVICES[name]
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d[\w.-]*", service["image"])
    assert service["read_only"] is True
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    if name not in ("postgres", "bucket"):  # these two give their folders to a user of their own at the first start
        assert service["cap_drop"] == ["ALL"]


@each_service
def test_only_the_proxy_can_be_reached_from_elsewhere(name: str) -> None:
    """Nothing but the proxy's two ports, which speak TLS, is published beyond this machine."""
    published = [port for port in SERVICES[name].get("ports", []) if not port.startswith("127.0.0.1:")]
    assert published == (
        ["${DCGAN_LISTEN:-0.0.0.0}:4200:4200", "${DCGAN_LISTEN:-0.0.0.0}:5000:5000"] if name == "proxy" else []
    )
    proxy = SERVICES["proxy"]["environment"]
    assert {proxy["PREFECT_LISTEN"], proxy["MLFLOW_LISTEN"]} == {"4200 ssl", "5000 ssl"}


@each_service
def test_every_mounted_file_exists(name: str) -> None:
    """What a service mounts, reads as its environment, or waits for is there."""
    service = SERVICES[name]
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        assert (FOLDER / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"]
    assert [file for file in service.get("env_file", []) if not (FOLDER / file).is_file()] == []
    assert set(service.get("secrets", [])) <= COMPOSE["secrets"].keys()
    assert set(service.get("networks", [])) <= COMPOSE["networks"].keys()
    for needed, how in service.get("depends_on", {}).items():
        expected = "service_completed_successfully" if needed in JOBS else "service_healthy"
        assert how["condition"] == expected
        assert needed in SERVICES


def test_both_servers_of_prefect_are_the_same() -> None:
    """The two API servers differ only in their address and what they wait for, and both wait for the migration."""
    first, second = (dict(SERVICES[f"prefect-{number}"]) for number in (1, 2))
    assert first.pop("networks") != second.pop("networks")
    assert second.pop("depends_on").keys() - first.pop("depends_on").keys() == {"prefect-1"}
    assert first == second
    for name in ("prefect-1", "prefect-2", "prefect-services"):
        assert "prefect-migration" in SERVICES[name]["depends_on"]
        assert SERVICES[name]["environment"] == SERVICES["prefect-migration"]["environment"]
    assert "mlflow-preparation" in SERVICES["mlflow"]["depends_on"]


def test_servers_behind_the_proxy_keep_their_addresses() -> None:
    """Nginx looks them up once; Docker gives an address of its own choice from another part of the network only."""
    (pool,) = COMPOSE["networks"]["default"]["ipam"]["config"]
    chosen_by_docker, network = ip_network(pool["ip_range"]), ip_network(pool["subnet"])
    upstreams = ("PREFECT_SERVER_1", "PREFECT_SERVER_2", "MLFLOW_SERVER")
    names = [SERVICES["proxy"]["environment"][each].partition(":")[0] for each in upstreams]
    addresses = {ip_address(SERVICES[name]["networks"]["default"]["ipv4_address"]) for name in names}
    assert len(addresses) == 3
    assert all(each in network and each not in chosen_by_docker for each in addresses)


def module(words: tuple[str, ...]) -> list[str]:
    """Return how compose.yaml starts a module."""
    return ["python", "-m", *words]


def test_commands_are_those_of_make_stack() -> None:
    """What runs from our image has the same command line in both, apart from where it listens."""
    listen = ["--host", "0.0.0.0", "--port", "4200"]
    assert SERVICES["prefect-1"]["command"] == module(stack.PREFECT_SERVER) + listen
    assert SERVICES["prefect-services"]["command"] == module(stack.PREFECT_SERVICES)
    assert SERVICES["prefect-migration"]["command"] == module(stack.PREFECT_MIGRATION)
    assert SERVICES["mlflow-preparation"]["command"] == module(stack.MLFLOW_PREPARATION)
    assert f"max_connections={stack.MAX_CONNECTIONS}" in SERVICES["postgres"]["command"]
    mlflow = [word for argument in SERVICES["mlflow"]["command"] for word in argument.split("=")]
    assert mlflow[: len(stack.MLFLOW_SERVER) + 2] == module(stack.MLFLOW_SERVER)
    assert {f"-{name}={value}" for name, value in stack.BUCKET_OPTIONS.items()} <= set(SERVICES["bucket"]["command"])


@pytest.fixture
def described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> stack.Stack:
    """Return what `make stack` would start, without starting it."""
    settings = stack.ServerSettings(DCGAN_STATE=tmp_path / "state")
    return stack.Stack(settings, stack.Passwords(), stack.Ports.choose(), dict.fromkeys(stack.PROGRAMS, "program"))


def test_settings_are_those_of_make_stack(described: stack.Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers get the same variables in both: those of the files are read by both, the others have the same names."""
    for name, environment, file in (
        ("prefect-1", described.prefect_environment, "prefect.env"),
        ("mlflow", described.mlflow_environment, "mlflow.env"),
    ):
        assert SERVICES[name]["env_file"] == [f"compose/{file}"]
        assert stack.read_env_file(file).items() <= environment.items()
        own = SERVICES[name]["environment"].keys() - {"HOME", "MLFLOW_USERS_URI"}
        assert own <= environment.keys()
    assert SERVICES["worker-cpu"]["environment"].keys() >= described.logins.keys()
    template = (FOLDER / "compose" / "nginx.conf.template").read_text()
    names = set(re.findall(r"\$\{([A-Z0-9_]+)\}", template))
    assert names == stack.proxy_values(described).keys()
    assert names <= SERVICES["proxy"]["environment"].keys()


def test_prefect_knows_its_settings() -> None:
    """Each variable of prefect.env is one that Prefect 3.8 reads, which it ignores silently where it is misspelt."""
    known = {name.upper() for name in _aliases(PrefectSettings)}
    names = stack.read_env_file("prefect.env").keys() - {"DO_NOT_TRACK"}
    assert len(names) > 10
    assert names - known == set()


def _aliases(model: Any, prefix: str = "prefect") -> set[str]:
    """Return the environment variables that a settings model of Prefect reads."""
    found = set()
    for name, field in model.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            found |= _aliases(field.annotation, f"{prefix}_{name}")
        found.add(f"{prefix}_{name}")
        choices = getattr(field.validation_alias, "choices", ())
        found |= {choice for choice in choices if isinstance(choice, str)}
    return found


def test_configuration_files_are_complete() -> None:
    """MLflow's users, Prometheus and Redis get what the services add to these files."""
    config = ConfigParser()
    config.read_string((FOLDER / "compose" / "mlflow-auth.ini").read_text() + "database_uri = postgresql://host/users")
    assert set(config["mlflow"]) == {"default_permission", "auth_cache_ttl_seconds", "database_uri"}
    prometheus = yaml.safe_load((FOLDER / "compose" / "prometheus.yml").read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in prometheus["scrape_configs"]}
    assert {target.split(":")[0] for each in targets.values() for target in each} <= SERVICES.keys()
    for job in prometheus["scrape_configs"]:
        assert job["basic_auth"]["password_file"] in " ".join(SERVICES["prometheus"]["entrypoint"])


def test_compose_accepts_it() -> None:
    """Docker's own program reads the file without an objection, where it is installed."""
    version = ["docker", "compose", "version"]
    if not shutil.which("docker") or subprocess.run(version, capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed")
    required = {name for name, rule in re.findall(r"(?<!\$)\$\{(\w+)([^}]*)\}", TEXT) if rule == ":?"}
    environment = {name: "/dev/null" if name.startswith("TLS_") else "value" for name in required}
    command = ["docker", "compose", "--file", str(FOLDER / "compose.yaml"), "--profile", "gpu", "config", "--quiet"]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
