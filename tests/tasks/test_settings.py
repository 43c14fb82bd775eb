"""The environment, read at the door: credentials leave the addresses, and what cannot be used is refused at once."""

import json
import os
import subprocess
import sys

import pytest

from dcgan.errors import ConfigurationError
from tasks.settings import Settings
from tests.service_stack import CHECKOUT

SET = (
    "import json, os; from tasks.settings import Settings, set_default_environment; set_default_environment(); "
    "print(json.dumps({**os.environ, 'uri': Settings.read().tracking_uri}))"
)


def start(**environment: str) -> "subprocess.CompletedProcess[str]":
    """Set the default environment in a process of its own, which prints its environment and its store's address."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PREFECT_"))}
    return subprocess.run(
        [sys.executable, "-c", SET],
        cwd=CHECKOUT,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("given", "address", "login"),
    [
        ("http://me:secret@host:5000", "http://host:5000", ("me", "secret")),
        ("HTTPS://me:s%40cr%3Aet@host/mlflow", "https://host/mlflow", ("me", "s@cr:et")),
        ("http://me@host", "http://host", ("me", "")),
    ],
)
def test_credentials_leave_the_address_of_mlflow(tmp_path, given, address, login):
    """MLflow has variables for them; what is shown and stored is the address without."""
    result = json.loads(start(DCGAN_STATE=str(tmp_path / "state"), MLFLOW_TRACKING_URI=given).stdout)
    assert result["uri"] == address
    assert (result["MLFLOW_TRACKING_USERNAME"], result["MLFLOW_TRACKING_PASSWORD"]) == login
    assert "secret" not in result["MLFLOW_TRACKING_URI"]


def test_credentials_leave_the_address_of_prefect(tmp_path):
    """Prefect has one variable for them."""
    given = "http://me:secret@127.0.0.1:4200/api"
    result = json.loads(start(DCGAN_STATE=str(tmp_path / "state"), PREFECT_API_URL=given).stdout)
    assert (result["PREFECT_API_URL"], result["PREFECT_API_AUTH_STRING"]) == ("http://127.0.0.1:4200/api", "me:secret")


def test_what_is_set_already_is_kept(tmp_path):
    """A user and a password in variables of their own count more than those of the address."""
    named = {"MLFLOW_TRACKING_USERNAME": "keeper", "MLFLOW_TRACKING_PASSWORD": "own"}
    given = {"MLFLOW_TRACKING_URI": "http://me:secret@host", **named}
    result = json.loads(start(DCGAN_STATE=str(tmp_path / "state"), **given).stdout)
    assert {name: result[name] for name in named} == named


@pytest.mark.parametrize("name", ["a?b", "a#b", "a%41b", "a\nb"])
def test_a_state_folder_that_no_database_can_have_is_refused(tmp_path, name):
    """SQLite's address in MLflow and Prefect has no way to write these characters; nothing is made."""
    result = start(DCGAN_STATE=str(tmp_path / name))
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: The setting DCGAN_STATE is unusable: ")
    assert line.endswith("; expected a path without ?, #, % and control characters.")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("written", "kept"), [("", 1), ("1", 1), ("12", 12), ("all", None)])
def test_the_number_of_kept_checkpoints(monkeypatch, written, kept):
    """A finished run keeps its newest by default, else as many as the setting says."""
    monkeypatch.setenv("DCGAN_KEEP_CHECKPOINTS", written)
    assert Settings.read().keep_checkpoints == kept


@pytest.mark.parametrize("written", ["0", "-1", "1.5", "many", "²"])
def test_a_number_of_kept_checkpoints_that_cannot_be_is_refused(monkeypatch, written):
    """A run that keeps none could not be trained further."""
    monkeypatch.setenv("DCGAN_KEEP_CHECKPOINTS", written)
    with pytest.raises(ConfigurationError) as refusal:
        Settings.read()
    assert str(refusal.value) == (
        f"The setting DCGAN_KEEP_CHECKPOINTS is unusable: {written!r} is not a number of checkpoints; "
        "expected one from 1, or all."
    )


def test_only_its_user_may_read_the_state_folder(tmp_path):
    """Prefect's and MLflow's databases in it can be read by whoever can enter it."""
    assert start(DCGAN_STATE=str(tmp_path / "state")).returncode == 0
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0


def test_a_user_that_does_not_exist_is_named():
    """A home folder that nobody has is one sentence, before anything is written."""
    done = start(DCGAN_STATE="~nobody-has-this-name/state")
    assert done.returncode == 1
    assert done.stderr == (
        "error: The setting DCGAN_STATE is unusable: ~nobody-has-this-name/state: there is no user "
        "nobody-has-this-name; expected another path.\n"
    )


def proxies_of(tmp_path, program, **proxies):
    """Return what a program prints that sets the default environment where these proxies are named."""
    others = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    result = subprocess.run(
        [sys.executable, "-c", f"{SET.partition(' print')[0]} import httpx, requests; print({program})"],
        cwd=CHECKOUT,
        env={**others, **proxies, "DCGAN_STATE": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_servers_of_this_machine_are_reached_directly(tmp_path, web, name):
    """A proxy that the environment names would look for them on its own machine; what it exempts already stays."""
    web.answers["/"] = [web.respond(b"here")] * 2
    url = f"{web.address}/"
    program = f"httpx.get({url!r}).text, requests.get({url!r}).text, os.environ['no_proxy'], sep=' '"
    proxies = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", name: "intranet"}
    assert proxies_of(tmp_path, program, **proxies) == ["here", "here", "intranet,127.0.0.1,localhost,::1"]


@pytest.mark.parametrize(
    ("proxies", "found"),
    [
        ({}, ["None"]),  # else macOS would not ask the system for its proxies
        ({"NO_PROXY": "intranet"}, ["intranet"]),
        ({"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "*"}, ["*"]),  # which counts only alone
    ],
)
def test_an_environment_that_needs_no_exemption_stays(tmp_path, proxies, found):
    """Where there is no proxy, or it is never used, nothing is set."""
    assert proxies_of(tmp_path, "os.environ.get('NO_PROXY')", **proxies) == found
