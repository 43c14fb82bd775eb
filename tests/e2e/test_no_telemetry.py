"""Nothing leaves the machine: strace records the addresses and name look-ups of all processes, native code too."""

import os
import re
import shutil
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest

from tests.service_stack import CHECKOUT, read_until_ready, start_stack

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not shutil.which("strace"), reason="needs strace, Debian's package strace"),
]

CALLS = ("connect", "sendto", "sendmsg", "sendmmsg")
LOOKUPS = ("htons(53)", "htons(5353)", "systemd/resolve")  # of names, also by a resolver of this machine

# a process whose child sends nothing, but asks for a route to an address reserved for documentation, and for a name
CONTROL = """
import subprocess, sys
child = '''
import socket
socket.socket(type=socket.SOCK_DGRAM).connect_ex(("192.0.2.1", 9))
try:
    socket.getaddrinfo("telemetry.invalid", 443)
except OSError:
    pass
'''
subprocess.run([sys.executable, "-c", child], check=True)
"""


def bare_environment(home: Path) -> dict[str, str]:
    """Return an environment that turns no telemetry off, so that only this project does."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "RES_OPTIONS": "timeout:1 attempts:1"}


def traced(log: Path) -> list[str]:
    """Return the beginning of a command line that records the network calls of the rest and its children in a file."""
    return ["strace", "-f", "-qq", "--seccomp-bpf", "-e", f"trace={','.join(CALLS)}", "-o", str(log)]


def attempts(log: Path) -> list[str]:
    """Return the calls that would leave this machine, or ask for the address of a name."""
    found = []
    for line in log.read_text(errors="replace").splitlines():
        addresses = re.findall(r'(?:inet_addr\(|inet_pton\(AF_INET6, )"([^"]+)"', line)
        beyond = any(not ip_address(address).is_loopback for address in addresses)
        if beyond or any(lookup in line for lookup in LOOKUPS):
            found.append(line)
    return found


@pytest.mark.slow
def test_attempts_are_seen(tmp_path: Path) -> None:
    """The trace has an address and a look-up of a process's child, so it would have those of a training run."""
    log = tmp_path / "calls"
    subprocess.run([*traced(log), sys.executable, "-c", CONTROL], env=bare_environment(tmp_path), check=True)
    found = attempts(log)
    assert any("192.0.2.1" in line for line in found)
    assert any(lookup in line for line in found for lookup in LOOKUPS)


@pytest.mark.slow
def test_a_training_run_uses_only_the_loopback(small_folder: Path, tmp_path: Path) -> None:
    """The whole pipeline on a folder, with Prefect's private server and the registration, connects to loopback only."""
    log = tmp_path / "calls"
    done = subprocess.run(
        [*traced(log), sys.executable, "-m", "flows.cli", "train", "--recipe", "smoke", "--source", str(small_folder)],
        cwd=CHECKOUT,
        env={**bare_environment(tmp_path), "DCGAN_STATE": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "127.0.0.1" in log.read_text(), "not even the private server was called"
    assert attempts(log) == []


@pytest.mark.e2e
def test_servers_and_workers_use_only_the_loopback(tmp_path: Path) -> None:
    """From its start to its end, `make ui` with its servers and workers connects to loopback only."""
    log = tmp_path / "calls"
    stack = start_stack(tmp_path / "state", wrapper=traced(log), inherited=bare_environment(tmp_path))
    try:
        read_until_ready(stack)
        stack.deploy()
    finally:
        (ui,) = psutil.Process(stack.process.pid).children()
        ui.terminate()
        stack.process.communicate(timeout=180)
    assert "127.0.0.1" in log.read_text()
    assert attempts(log) == []
