"""Nothing is sent to anybody: all processes, native code too, are watched by strace for addresses and look-ups."""

import os
import re
import shutil
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest

from tests.desk import CHECKOUT, read_until_ready, start_desk

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not shutil.which("strace"), reason="needs strace, Debian's package strace"),
]

CALLS = ("connect", "sendto", "sendmsg", "sendmmsg")
LOOKUPS = ("htons(53)", "htons(5353)", "systemd/resolve")  # of names, also where a resolver of this machine is asked

# a process whose child sends nothing, but asks for a route to an address that is for documents, and for a name
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


def bare(home: Path) -> dict[str, str]:
    """Return an environment in which nothing is turned off: not by these tests, and not by libraries that see tests."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "RES_OPTIONS": "timeout:1 attempts:1"}


def watched(log: Path) -> list[str]:
    """Return the beginning of a command line that has the rest watched, with its children, into a file."""
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
    """The watch sees an address and a look-up of a process's child, so that it would see one of a training."""
    log = tmp_path / "calls"
    subprocess.run([*watched(log), sys.executable, "-c", CONTROL], env=bare(tmp_path), check=True)
    seen = attempts(log)
    assert any("192.0.2.1" in line for line in seen)
    assert any(lookup in line for line in seen for lookup in LOOKUPS)


@pytest.mark.slow
def test_a_training_asks_nobody(small_folder: Path, tmp_path: Path) -> None:
    """The whole pipeline on a folder, with Prefect's embedded server and the registration, talks to loopback only."""
    log = tmp_path / "calls"
    done = subprocess.run(
        [*watched(log), sys.executable, "-m", "flows.train", "--recipe", "smoke", "--source", str(small_folder)],
        cwd=CHECKOUT,
        env={**bare(tmp_path), "DCGAN_STATE": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "127.0.0.1" in log.read_text(), "not even the embedded server was asked"
    assert attempts(log) == []


@pytest.mark.e2e
def test_servers_and_workers_ask_nobody(tmp_path: Path) -> None:
    """From its start to its end, `make ui` with its servers and workers talks to loopback only."""
    log = tmp_path / "calls"
    desk = start_desk(tmp_path / "state", before=watched(log), inherited=bare(tmp_path))
    try:
        read_until_ready(desk)
        desk.deploy()
    finally:
        (ui,) = psutil.Process(desk.process.pid).children()
        ui.terminate()
        desk.process.communicate(timeout=180)
    assert "127.0.0.1" in log.read_text()
    assert attempts(log) == []
