"""The guard in front of Prefect's server: it refuses what web pages of other origins send.

Whoever can talk to Prefect's server can run programs as the user who started its workers. That it listens on loopback
keeps other machines out, but not the browser of this one, in which a page of any site can send it requests. CORS only
keeps such a page from reading the answers. Three ways remain, and each is closed by a header that a page cannot forge:

* A page may POST without asking the server first if the body is a form, text, or a Blob without a type, which Prefect
  would read as JSON. So every body must be declared as JSON, and a request with an `Origin` must come from a page of
  this server. Browsers send that header with every request that can change something.
* A page may open a WebSocket to any server. Browsers send its `Origin` too.
* With DNS rebinding, the name of a hostile site leads to this machine, and its page counts as one of this server. So
  the `Host` must be one of this server's own addresses.

A Content Security Policy has the browser enforce two more things: other sites cannot show Prefect's pages in a frame,
to make the user click in them, and scripts of Prefect's pages connect to no other server, such as an analytics
company's.

Programs can send any header, so the guard does not protect from other users of this machine, or from other machines
when the server listens beyond loopback. Passwords do.
"""

import re
from collections.abc import Iterable

from prefect.logging import get_logger
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ALLOWED_ORIGINS = "PREFECT_SERVER_CORS_ALLOWED_ORIGINS"
CONTENT_SECURITY_POLICY = "connect-src 'self'; frame-ancestors 'self'"
HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(:\d+)?")
JSON_TYPE = re.compile(r"application/([^/;\s]+\+)?json\s*(;.*)?", re.IGNORECASE)
HTTP_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
MAX_LOGGED_REFUSALS = 100  # a hostile page can invent any number

logger = get_logger(__name__)


class Guard:
    """ASGI middleware that passes on only requests of programs and of the server's own pages.

    It answers 400 for a foreign or missing host, 403 for a foreign origin, 415 for a body that is not declared as JSON,
    and the handshake of a WebSocket likewise, before it is accepted. Each sentence is logged once.

    Args:
        app: The application that it guards.
        origins: Origins of the server's own pages, as in `http://127.0.0.1:4200`; the server answers to their hosts, at
            any port, because a port may be forwarded to it.
    """

    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        self._app = app
        self._origins = {origin.lower() for origin in origins}
        self._hosts = {_without_port(origin.partition("://")[2]) for origin in self._origins} - {""}
        self._logged: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a refusal."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif refusal := self._refusal(scope):
            status, sentence = refusal
            self._log(sentence)
            await JSONResponse({"detail": sentence}, status)(scope, receive, send)
        else:
            await self._app(scope, receive, _with_policy(send))

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if _without_port(host) not in self._hosts:
            return 400, f"This server is not {host!r}; to give it that name, add its origin to {ALLOWED_ORIGINS}."
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in {*self._origins, f"{HTTP_SCHEMES[scope['scheme']]}://{host}"}:
            return 403, f"Pages of {origin!r} may not use this server; to let them, add it to {ALLOWED_ORIGINS}."
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        content_type = headers.get("content-type", "")
        if has_body and not JSON_TYPE.fullmatch(content_type):
            return 415, f"The content type of the body is {content_type!r}; expected application/json."
        return None

    def _log(self, sentence: str) -> None:
        if sentence not in self._logged and len(self._logged) < MAX_LOGGED_REFUSALS:
            self._logged.add(sentence)
            logger.warning("Refused a request: %s", sentence)


def _without_port(host: str) -> str:
    """Return a host's name or address, an IPv6 address in its brackets; an empty string if it is malformed."""
    match = HOST.fullmatch(host)
    return match[1] if match else ""


def _with_policy(send: Send) -> Send:
    """Return `send` with the Content Security Policy among the headers of a response."""

    async def send_with_policy(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        await send(message)

    return send_with_policy
