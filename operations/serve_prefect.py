"""Prefect's server in a process of its own, for `make ui` and for commands that run without a server.

`python -m operations.serve_prefect --host HOST --port PORT` serves what `prefect server start` serves: the API, its
pages, and the background services. With `--descriptor N` it serves only the API, on an inherited socket that already
listens, and ends when standard input closes. Either is behind the guard.
"""

import atexit
import gc
import socket
import sys
from argparse import ArgumentParser
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

import uvicorn
from prefect.server.api.server import create_app
from prefect.settings import PREFECT_HOME, get_current_settings
from sqlalchemy.engine import make_url

from dcgan.files import exclusive_lock
from operations.guard import Guard
from operations.servers import Address, local_url
from tracking.database_template import copy_template, database_lock


class Server(uvicorn.Server):
    """A server of Prefect's app that begins anew with a database which an earlier start left half made.

    Prefect creates its database by dozens of migrations without a transaction: killed or out of space among them, no
    later start would succeed. A mark beside the database tells that it was never complete, so nothing is lost with it.

    Args:
        config: Uvicorn's configuration.
        database: The file of the database; None where it is not SQLite's.
    """

    def __init__(self, config: uvicorn.Config, database: Path | None) -> None:
        super().__init__(config)
        self._database = database
        self._starting = ExitStack()

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal comes; while another server starts with the same database, wait."""
        lock = database_lock(self._database) if self._database else PREFECT_HOME.value() / "server.lock"
        with self._starting:
            self._starting.enter_context(exclusive_lock(lock))
            if self._database:
                self._begin_anew(self._database)
            super().run(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the app, whose database is complete then."""
        await super().startup(sockets)
        if self.started:
            if self._database:
                _mark_of(self._database).unlink(missing_ok=True)
            self._starting.close()

    @staticmethod
    def _begin_anew(database: Path) -> None:
        if _mark_of(database).exists():
            for suffix in ("", "-wal", "-shm", "-journal"):
                database.with_name(f"{database.name}{suffix}").unlink(missing_ok=True)
            _mark_of(database).unlink()
        copy_template("prefect", database)
        if not database.exists():
            _mark_of(database).touch()


def _mark_of(database: Path) -> Path:
    return database.with_name(f".{database.name}.incomplete")


def _database_file(url: str) -> Path | None:
    """Return the file of an SQLite database, None for other databases and for one in memory."""
    parsed = make_url(url)
    in_file = parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:")
    return Path(str(parsed.database)) if in_file and not parsed.query else None


def build_server(host: str, port: int, *, ephemeral: bool) -> Server:
    """Return a server of Prefect's app, guarded, with Prefect's own settings.

    Args:
        host: The IP address or host name to bind.
        port: The TCP port to bind.
        ephemeral: Whether to leave out pages and schedules, and to log only errors.
    """
    settings = get_current_settings().server
    own_pages = Address(local_url(host, port), "PREFECT_API_URL", listen=host).browser_origins
    other_pages = [origin.strip().rstrip("/") for origin in settings.api.cors_allowed_origins.split(",")]
    config = uvicorn.Config(
        # around the app, not in it: Prefect's services call the app itself, by a host name of their own
        Guard(
            create_app(final=True, ephemeral=ephemeral),
            # neither "*" nor "null", which is the origin of any page in a sandbox
            [*own_pages, *(origin for origin in other_pages if origin.startswith(("http://", "https://")))],
        ),
        host=host,
        port=port,
        log_level="error" if ephemeral else settings.logging_level.lower(),
        timeout_keep_alive=settings.api.keepalive_timeout,
        ws_ping_interval=settings.api.websocket_ping_interval,
        ws_ping_timeout=settings.api.websocket_ping_timeout,
    )
    url = settings.database.connection_url
    return Server(config, _database_file(url.get_secret_value()) if url else None)


def end_with_parent(server: uvicorn.Server) -> None:
    """Stop the server when the pipe from the parent process closes, however that process ended."""
    sys.stdin.buffer.read()
    server.should_exit = True


def main(arguments: list[str]) -> int:
    """Serve until a signal comes, or until standard input closes.

    Returns:
        The exit code: 1 if the server could not start.
    """
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="IP address or host name to bind")
    parser.add_argument("--port", type=int, default=4200, help="TCP port to bind")
    parser.add_argument("--descriptor", type=int, help="File descriptor of a listening socket to serve instead")
    options = parser.parse_args(arguments)
    atexit.register(gc.freeze)  # else the server ends seconds later, after a search of all its objects for cycles
    if options.descriptor is None:
        server = build_server(options.host, options.port, ephemeral=False)
        server.run()
    else:
        listener = socket.socket(fileno=options.descriptor)
        server = build_server(*listener.getsockname(), ephemeral=True)
        Thread(target=end_with_parent, args=[server], daemon=True).start()
        server.run(sockets=[listener])
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
