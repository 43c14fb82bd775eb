"""Web servers that misbehave, each with the type of error and the message that follows the address of the source."""

import errno
import gzip
import os

from dcgan.data.idx import FILES
from dcgan.errors import DataError, NetworkError
from tasks.sources import AbsentError, Limits

NAMES = [f"{file.name}.gz" for file in FILES]
FIRST = NAMES[0]
HTML = b"<!DOCTYPE html><html><body>Sign in to the network</body></html>"


def errno_text(number: int) -> str:
    """Return how Python writes an error of the operating system."""
    return f"[Errno {number}] {os.strerror(number)}"


def both_absent(status: int) -> str:
    """Return the message when neither name exists."""
    return f": neither {FIRST} nor {FIRST[:-3]} exists: the server answers HTTP {status}."


LOST = "the connection failed: "
FAULTS = {
    "404": (lambda web, _: web.respond(b"", "404 Not Found"), AbsentError, both_absent(404)),
    "403": (lambda web, _: web.respond(b"", "403 Forbidden"), AbsentError, both_absent(403)),
    "401": (
        lambda web, _: web.respond(b"", "401 No"),
        DataError,
        f"/{FIRST}: the server answers HTTP 401; expected 200.",
    ),
    "204": (
        lambda web, _: web.respond(b"", "204 No"),
        DataError,
        f"/{FIRST}: the server answers HTTP 204; expected 200.",
    ),
    "429": (
        lambda web, _: web.respond(b"", "429 No"),
        NetworkError,
        f"/{FIRST}: the server answers HTTP 429; expected 200.",
    ),
    "500": (
        lambda web, _: web.respond(b"", "500 No"),
        NetworkError,
        f"/{FIRST}: the server answers HTTP 500; expected 200.",
    ),
    "503": (
        lambda web, _: web.respond(b"", "503 No"),
        NetworkError,
        f"/{FIRST}: the server answers HTTP 503; expected 200.",
    ),
    "redirect loop": (lambda web, _: web.redirect(f"/x/{FIRST}"), DataError, f"/{FIRST}: redirects more than 5 times."),
    "redirect elsewhere": (
        lambda web, _: web.redirect("ftp://h/x"),
        DataError,
        f"/{FIRST}: leads to an unusable address: Request URL has an unsupported protocol 'ftp://'.",
    ),
    "cut body": (
        lambda web, body: web.respond(body[:-9], length=len(body)),
        NetworkError,
        f"/{FIRST}: {LOST}peer closed connection without sending complete message body",
    ),
    "too small a length": (
        lambda web, body: web.respond(body, length=len(body) - 9),
        DataError,
        f"/{FIRST}: byte 470416: the gzip stream is damaged: Compressed file ended before the end-of-stream marker",
    ),
    "wrong body": (
        lambda web, _: web.respond(gzip.compress(b"\0\0\x08\x03" + bytes(20))),
        DataError,
        f"/{FIRST}: byte 8: the images are 0x0; expected 28x28.",
    ),
    "html": (
        lambda web, _: web.respond(HTML),
        DataError,
        f"/{FIRST}: byte 0: the file is a web page; expected 0x0",
    ),
    "empty body": (
        lambda web, _: web.respond(b""),
        DataError,
        f"/{FIRST}: byte 0: the file is empty; expected 0x0",
    ),
    "too long": (lambda web, _: web.respond(bytes(300_000)), DataError, f"/{FIRST}: is longer than 200000 bytes."),
    "slow drip": (lambda web, body: web.drip(body), NetworkError, f"/{FIRST}: is not complete after 1 seconds."),
    "stalled body": (lambda web, body: web.stall(body), NetworkError, f"/{FIRST}: {LOST}timed out."),
    "reset": (
        lambda web, body: web.reset_after(body[:50]),
        NetworkError,
        f"/{FIRST}: {LOST}{errno_text(errno.ECONNRESET)}.",
    ),
    "nothing at all": (lambda web, _: web.silence(), NetworkError, f"/{FIRST}: no answer within 0.4 seconds."),
    "not HTTP": (
        lambda _web, _: lambda connection: connection.sendall(b"\0\1\2\r\n\r\n"),
        NetworkError,
        f"/{FIRST}: {LOST}illegal status line",
    ),
    "closed at once": (
        lambda _web, _: lambda connection: connection.close(),
        NetworkError,
        f"/{FIRST}: {LOST}Server disconnected without sending a response.",
    ),
}


def limits_of(fault: str) -> Limits:
    """Return the limits to meet a fault with: only the one that it exceeds is low, as a busy machine is slow too."""
    exceeded = {
        "too long": Limits(file_bytes=200_000),
        "slow drip": Limits(file_seconds=1),
        "stalled body": Limits(read_seconds=0.6),
        "nothing at all": Limits(answer_seconds=0.4),
    }
    return exceeded.get(fault, Limits())
