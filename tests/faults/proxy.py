"""A proxy in front of an MLflow server that lets requests fail, before or after the server has done them."""

import re
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

import httpx

Failure = Literal["unanswered", "unavailable"]
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-encoding", "content-length", "host"}


class UnreliableProxy(ThreadingHTTPServer):
    """Passes requests on to a server, and lets the first ones to each of its endpoints fail.

    Args:
        server: Address of the server.
        failure: `unanswered` passes the request on and drops the reply; `unavailable` answers 503 instead.
        times: How many requests to an endpoint fail.
        only: The endpoints whose requests fail; None for all.

    Attributes:
        asked: How many requests to each endpoint there were.
    """

    def __init__(self, server: str, failure: Failure, times: int = 1, only: Collection[str] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Passage)
        self.client = httpx.Client(base_url=server, timeout=60, trust_env=False)
        self.failure = failure
        self.times = times
        self.only = only
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()

    def fails(self, endpoint: str) -> bool:
        """Return whether a request to an endpoint is to fail; the question before all others never does."""
        if endpoint == "GET /health" or (self.only is not None and endpoint not in self.only):
            return False
        with self.lock:
            self.asked[endpoint] += 1
            return self.asked[endpoint] <= self.times


class _Passage(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: UnreliableProxy

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fails = self.server.fails(endpoint(self.command, self.path))
        if fails and self.server.failure == "unavailable":
            self._reply(503, b"try again", {})
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        answer = self.server.client.request(self.command, self.path, content=body, headers=headers)
        if fails:
            self.close_connection = True
            return
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
        self._reply(answer.status_code, answer.content, kept)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # noqa: N815 - the names that http.server calls

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def endpoint(method: str, path: str) -> str:
    """Return a request's method and path without what names one object."""
    path = path.partition("?")[0]
    path = re.sub(r"(/mlflow-artifacts/artifacts)/.*", r"\1", path)
    return f"{method} {re.sub(r'/(m-)?[0-9a-f]{32}', '/ID', path)}"


@contextmanager
def unreliable(
    server: str, failure: Failure, times: int = 1, only: Collection[str] | None = None
) -> Iterator[tuple[UnreliableProxy, str]]:
    """Yield a proxy in front of a server, and its address."""
    with UnreliableProxy(server, failure, times, only) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy, f"http://127.0.0.1:{proxy.server_address[1]}"
        finally:
            proxy.shutdown()
            thread.join()
            proxy.client.close()
