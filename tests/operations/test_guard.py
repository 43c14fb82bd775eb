"""The guard in front of Prefect's server: who passes, who is refused and how, by raw requests.

The quick tests have a small application behind it, the slow ones Prefect's server: that of `make ui`, and a command's.
"""

import asyncio
import base64
import platform
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from threading import Thread

import psutil
import pytest
import uvicorn
from prefect import flow, get_client, get_run_logger
from prefect.events import Event
from prefect.events.clients import get_events_subscriber
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, PREFECT_HOME, temporary_settings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from operations.guard import Guard
from operations.prefect_server import prefect_server
from operations.servers import Address, ServerSettings, prefect_command, server_environment
from tests.servers import running
from tests.service_stack import free_port

OTHER_ORIGIN = "https://prefect.example"
JSON = {"Content-Type": "application/json"}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Protocol": "prefect",
}


@dataclass(frozen=True)
class Guarded:
    """A guarded server on 127.0.0.1.

    Attributes:
        port: Its TCP port.
        headers: What its clients send with each request.
        process: Its process, where it is Prefect's.
        folder: Where it writes.
    """

    port: int
    headers: Mapping[str, str] = field(default_factory=dict)
    process: psutil.Process | None = None
    folder: Path | None = None

    def answer(self, method: str, path: str, headers: Mapping[str, str | None], body: str = "") -> tuple[int, str]:
        """Return the status of the answer to a raw request, and the answer; "PORT" in a header is the server's port."""
        fields = {"Host": "127.0.0.1:PORT", **headers}
        lines = [
            f"{name}: {value}".replace("PORT", str(self.port)) for name, value in fields.items() if value is not None
        ]
        length = [f"Content-Length: {len(body)}"] if body else []
        request = "\r\n".join([f"{method} {path} HTTP/1.1", *lines, *length, "", body])
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(request.encode())
            response = HTTPResponse(connection)
            response.begin()
            content = "" if response.status == 101 else response.read().decode()
        return response.status, f"{response.headers}{content}"


@contextmanager
def small_application() -> Iterator[Guarded]:
    """Run an application with routes of Prefect's, guarded, by uvicorn."""

    async def accept(websocket: WebSocket) -> None:
        await websocket.accept("prefect")
        await websocket.close()

    async def answer(request: Request) -> JSONResponse:
        return JSONResponse(await request.json() if request.method == "POST" else True)

    routes = [
        Route("/api/health", answer),
        Route("/api/flows/filter", answer, methods=["POST"]),
        WebSocketRoute("/api/events/out", accept),
    ]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address(f"http://127.0.0.1:{listener.getsockname()[1]}", "PREFECT_API_URL")
        app = Guard(Starlette(routes=routes), [*address.browser_origins, OTHER_ORIGIN])
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield Guarded(address.port)
        server.should_exit = True
        thread.join()


@contextmanager
def public_server(folder: Path) -> Iterator[Guarded]:
    """Run Prefect's server as `make ui` does."""
    settings = ServerSettings(PREFECT_API_URL=f"http://127.0.0.1:{free_port()}/api")
    environment = {
        **server_environment(settings),
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"*, null, {OTHER_ORIGIN}/",
    }
    with (
        running(prefect_command(settings), environment, settings.prefect, folder),
        temporary_settings({PREFECT_API_URL: settings.prefect.url}),
        prefect_server(),
    ):
        yield Guarded(settings.prefect.port)


@contextmanager
def private_server(folder: Path) -> Iterator[Guarded]:
    """Run Prefect's server as a command without one does."""
    with (
        pytest.MonkeyPatch.context() as environment,
        temporary_settings({PREFECT_HOME: folder}, restore_defaults={PREFECT_API_URL, PREFECT_API_AUTH_STRING}),
    ):
        environment.setenv("PREFECT_HOME", str(folder))
        environment.setenv("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", OTHER_ORIGIN)
        before = psutil.Process().children()
        with prefect_server() as url:
            (process,) = [each for each in psutil.Process().children() if each not in before]
            token = base64.b64encode(PREFECT_API_AUTH_STRING.value().encode()).decode()
            yield Guarded(Address(url, "").port, {"Authorization": f"Basic {token}"}, process, folder)


@pytest.fixture(
    scope="module",
    params=["small", *(pytest.param(each, marks=pytest.mark.slow) for each in ("public", "private"))],
)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Yield a guarded server."""
    folder = tmp_path_factory.mktemp("guarded")
    servers = {"small": small_application, "public": lambda: public_server(folder)}
    with servers.get(request.param, lambda: private_server(folder))() as guarded:
        yield guarded


OWN = [
    {},
    *({"Host": f"{host}:PORT"} for host in ("localhost", "LOCALHOST", "[::1]")),
    *({"Host": host, "Origin": f"http://{host}"} for host in ("127.0.0.1:PORT", "localhost:PORT", "[::1]:PORT")),
    {"Origin": "http://localhost:PORT"},  # a page at another name of the same server
    {"Host": "localhost:1234", "Origin": "http://localhost:1234"},  # through a forwarded port
]

REFUSED = [
    *((400, {"Host": host}) for host in (None, "rebound.example", "rebound.example:PORT", "127.0.0.1.nip.io:PORT")),
    *((400, {"Host": host}) for host in ("192.168.1.5:PORT", "[::2]:PORT", "[::1", "me@127.0.0.1:PORT", "::1:PORT")),
    (400, {"Host": "rebound.example:PORT", "Origin": "http://rebound.example:PORT"}),
    *((403, {"Origin": origin}) for origin in ("http://evil.example", "null", "", " ", "http://127.0.0.1:1")),
    *((403, {"Origin": origin}) for origin in ("https://127.0.0.1:PORT", "http://127.0.0.1:PORT.evil.example")),
    (403, {"Host": "localhost:1234", "Origin": "http://127.0.0.1:1234"}),
]


@pytest.mark.parametrize("headers", OWN)
def test_programs_and_own_pages_pass(server: Guarded, headers: dict[str, str]) -> None:
    """Whoever sends no origin, or one of the server's own, reads and writes under each name of the server."""
    assert server.answer("GET", "/api/health", headers)[0] == 200
    sent = {**server.headers, **JSON, **headers}
    assert server.answer("POST", "/api/flows/filter", sent, "{}")[0] == 200
    assert server.answer("GET", "/api/events/out", {**UPGRADE, **headers})[0] == 101


@pytest.mark.parametrize(("status", "headers"), REFUSED)
def test_other_hosts_and_origins_are_refused(server: Guarded, status: int, headers: dict[str, str | None]) -> None:
    """A page of another site, or under another name, gets a sentence: no data, no WebSocket, and no leave by CORS."""
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    attempts = [
        server.answer("GET", "/api/health", headers),
        server.answer("POST", "/api/flows/filter", {**server.headers, **JSON, **headers}, "{}"),
        server.answer("OPTIONS", "/api/flows/filter", {**preflight, **headers}),
        server.answer("GET", "/api/events/out", {**UPGRADE, **headers}),
    ]
    assert [attempt[0] for attempt in attempts] == [status] * 4
    assert [answer for _, answer in attempts if "access-control" in answer.lower()] == []


@pytest.mark.parametrize(
    "content_type",
    [
        None,  # a Blob without a type
        "text/plain;charset=UTF-8",
        "text/plain; application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/octet-stream",
        "application/jsonp",
        "application/json, text/plain",
    ],
)
@pytest.mark.parametrize("encoding", [None, "chunked"])
def test_only_json_is_read(server: Guarded, content_type: str | None, encoding: str | None) -> None:
    """A body of any type that a page may send without asking is refused, also from a program."""
    headers = {**server.headers, "Content-Type": content_type, "Transfer-Encoding": encoding}
    status, answer = server.answer("POST", "/api/flows/filter", headers, "" if encoding else "{}")
    assert status == 415
    sentence = f"The content type of the body is {content_type or ''!r}; expected application/json."
    assert answer.endswith(f'{{"detail":"{sentence}"}}')


@pytest.mark.parametrize("content_type", ["application/json", "APPLICATION/JSON ; charset=utf-8", "application/a+json"])
def test_json_by_any_of_its_names_is_read(server: Guarded, content_type: str) -> None:
    """The type is compared as HTTP says: without regard to case and parameters."""
    headers = {**server.headers, "Content-Type": content_type}
    assert server.answer("POST", "/api/flows/filter", headers, "{}")[0] == 200


def test_a_proxy_may_give_the_server_of_make_ui_another_name(server: Guarded) -> None:
    """An origin that the user allows passes, and so does its host; a command's own server has no other name."""
    headers = {**server.headers, **JSON, "Host": "prefect.example", "Origin": OTHER_ORIGIN}
    is_private = server.process is not None
    assert server.answer("POST", "/api/flows/filter", headers, "{}")[0] == (400 if is_private else 200)


def test_every_answer_has_the_policy(server: Guarded) -> None:
    """Browsers learn that pages of this server connect to nobody else, and may not be framed."""
    policy = "content-security-policy: connect-src 'self'; frame-ancestors 'self'\n"
    for path in ("/", "/api/health"):
        assert policy in server.answer("GET", path, {})[1].lower()


def test_refusals_are_logged_once_and_not_without_end(caplog: pytest.LogCaptureFixture) -> None:
    """A page cannot fill the log: neither with the same refusal nor with ever new ones."""
    with small_application() as server:
        for number in [1, 1, 2, 1, *range(200)]:
            assert server.answer("GET", "/api/health", {"Host": f"{number}.example"})[0] == 400
    messages = [each.getMessage() for each in caplog.records if "Refused" in each.msg]
    assert messages[:2] == [
        f"Refused a request: This server is not '{number}.example'; to give it that name, "
        "add its origin to PREFECT_SERVER_CORS_ALLOWED_ORIGINS."
        for number in (1, 2)
    ]
    assert len(messages) == len(set(messages)) == 100


def test_beyond_loopback_the_machines_names_are_known() -> None:
    """A server that other machines reach has the names by which users call this machine, one on loopback has not."""
    name = platform.node().lower()
    for listen in ("192.168.1.5", "0.0.0.0"):
        origins = Address("http://192.168.1.5:4200/api", "PREFECT_API_URL", listen).browser_origins
        assert {f"http://{each}:4200" for each in ("192.168.1.5", "127.0.0.1", "localhost", name)} <= {*origins}
    for host, listen in (("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("[::1]", "::1")):
        assert Address(f"http://{host}:4200/api", "PREFECT_API_URL", listen).browser_origins == [
            f"http://{each}:4200" for each in ("127.0.0.1", "[::1]", "localhost")
        ]


async def first_event() -> Event:
    """Return the first event that the server sends through its WebSocket."""
    async with get_events_subscriber() as events:
        return await anext(events)


@pytest.mark.slow
@pytest.mark.parametrize("server", ["public", "private"], indirect=True)
def test_prefects_clients_pass(server: Guarded) -> None:
    """A flow run, its log and its events arrive, and events can be watched."""

    @flow
    def greet() -> str:
        get_run_logger().info("Passed the guard.")
        return "done"

    assert greet() == "done"
    deadline = time.monotonic() + 60
    with get_client(sync_client=True) as client:
        (flow_run,) = client.read_flow_runs()
        assert flow_run.state_name == "Completed"
        while "Passed the guard." not in [log.message for log in client.read_logs()]:
            assert time.monotonic() < deadline
            time.sleep(0.5)
    while (
        "prefect.flow-run.Completed"
        not in server.answer("POST", "/api/events/filter", {**server.headers, **JSON}, "{}")[1]
    ):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert asyncio.run(first_event()).event.startswith("prefect.")


@pytest.mark.slow
@pytest.mark.parametrize("server", ["private"], indirect=True)
def test_a_commands_server_asks_for_a_password(server: Guarded) -> None:
    """Without its password nobody reads, writes or listens, only its health is public."""
    for headers in ({}, {"Authorization": f"Basic {base64.b64encode(b'dcgan:').decode()}"}):
        assert server.answer("POST", "/api/flows/filter", {**JSON, **headers}, "{}")[0] == 401
        assert server.answer("GET", "/api/admin/settings", headers)[0] == 401
        assert server.answer("GET", "/api/health", headers)[0] == 200
    with connect(f"ws://127.0.0.1:{server.port}/api/events/out", subprotocols=["prefect"]) as socket:
        socket.send('{"type": "auth", "token": null}')
        with pytest.raises(ConnectionClosedError) as closed:
            socket.recv(timeout=30)
    assert closed.value.rcvd.code == 1008


@pytest.mark.slow
@pytest.mark.parametrize("server", ["private"], indirect=True)
def test_that_password_is_nowhere_to_be_read(server: Guarded) -> None:
    """It is in the server's environment, which only its user can read: in no command line and no file."""
    password = PREFECT_API_AUTH_STRING.value()
    assert server.process.environ()["PREFECT_SERVER_API_AUTH_STRING"] == password
    assert password not in " ".join(server.process.cmdline())
    secret = password.removeprefix("dcgan:").encode()
    assert len(secret) > 40
    files = [path for path in server.folder.rglob("*") if path.is_file()]
    assert "prefect.db" in [path.name for path in files]
    assert [path for path in files if secret in path.read_bytes()] == []
