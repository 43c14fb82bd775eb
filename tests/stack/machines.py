"""Workers as if each were on a machine of its own: with a state folder, a home and a network that no other has."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

from operations.servers import LOOPBACK, worker_command
from operations.supervisor import Role, Service, Supervisor
from tests.service_stack import ServiceStack, wait_until

ADDRESSES = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "DCGAN_SWEEPS_URI")


class Machines:
    """Starts workers that share nothing but the servers' addresses, which is all that a worker elsewhere has.

    For root, who may make network namespaces, each is in one: its loopback has relays to those addresses and nothing
    else, neither the S3 server nor the databases behind MLflow and Prefect nor another machine.

    Args:
        team: The running stack.
        root: The folder of the machines' folders.

    Attributes:
        ports: The port of each address, by the name of its variable.
        isolated: Whether each machine has a network of its own.
    """

    def __init__(self, team: ServiceStack, root: Path) -> None:
        self._team, self._root = team, root
        self._made = ExitStack()
        # a short path: those of sockets have 107 bytes at most
        self._sockets = Path(self._made.enter_context(tempfile.TemporaryDirectory(prefix="dcgan-")))
        self.ports = {name: urlsplit(team.environment[name]).port or 0 for name in ADDRESSES}
        self._networks: dict[str, list[str]] = {}
        self._supervisor = Supervisor(root / "logs", Event(), grace_seconds=30)
        self.isolated = os.geteuid() == 0 and bool(shutil.which("ip") and shutil.which("socat"))
        if self.isolated:
            for port in self.ports.values():
                here, there = f"UNIX-LISTEN:{self.socket(port)},fork", f"TCP:{LOOPBACK[0]}:{port}"
                self._supervisor.start(f"relay-{port}", ["socat", here, there], os.environ, Role.STORE)

    def start(self, name: str, pool: str = "cpu", **variables: str) -> Service:
        """Start a machine's worker, with environment variables of its own."""
        state, home = self._root / name / "state", self._root / name / "home"
        home.mkdir(parents=True)
        own = {"DCGAN_STATE": str(state), "PREFECT_HOME": str(state / "prefect"), "HOME": str(home)}
        environment = {**self._team.environment, **own, "PREFECT_WORKER_QUERY_SECONDS": "2"}
        inside = self._networks.get(name) or self.network(name)
        command = [*inside, *worker_command(pool, name)]
        return self._supervisor.start(name, command, environment | variables, Role.WORKER)

    def network(self, name: str, proxy: Sequence[str] = ()) -> list[str]:
        """Return the words that run a command in a new machine's network, where all addresses answer by then.

        Args:
            name: Name of the machine.
            proxy: Command line of what listens there for Prefect's and MLflow's address, instead of relays.
        """
        if not self.isolated:
            return []
        namespace = f"{self._sockets.name}-{name}"
        subprocess.run(["ip", "netns", "add", namespace], check=True)
        self._made.callback(subprocess.run, ["ip", "netns", "delete", namespace], check=True)
        inside = self._networks[name] = ["ip", "netns", "exec", namespace]
        subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)
        if proxy:
            self._supervisor.start(f"{name}-proxy", [*inside, *proxy], os.environ, Role.STORE)
        for port in self.ports.values() if not proxy else [self.ports["DCGAN_SWEEPS_URI"]]:
            here, there = f"TCP-LISTEN:{port},bind={LOOPBACK[0]},fork,reuseaddr", f"UNIX-CONNECT:{self.socket(port)}"
            self._supervisor.start(f"{name}-relay-{port}", [*inside, "socat", here, there], os.environ, Role.STORE)
        wait_until("the addresses", lambda: all(self.reaches(name, port) for port in self.ports.values()))
        return inside

    def reaches(self, name: str, port: int) -> bool:
        """Return whether something answers at a port of a machine's loopback."""
        probe = [*self._networks[name], "socat", "-u", "OPEN:/dev/null", f"TCP:{LOOPBACK[0]}:{port}"]
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0

    def stop(self) -> None:
        """Stop every worker, and remove the networks."""
        with self._made:
            self._supervisor.stop()

    def socket(self, port: int) -> Path:
        """Return the Unix socket, visible in every network, that leads to a port of this machine's loopback."""
        return self._sockets / str(port)
