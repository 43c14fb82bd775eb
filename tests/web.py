"""A web server on the loopback that misbehaves on command."""

import base64
import socket
import socketserver
import ssl
import struct
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

Answer = Callable[[socket.socket], None]


def respond(body: bytes, status: str = "200 OK", length: int | None = None, extra: str = "") -> Answer:
    """Return an answer with that body, and a Content-Length that may be false."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body) if length is None else length}\r\n{extra}"
    return lambda connection: connection.sendall(f"{head}Connection: close\r\n\r\n".encode() + body)


def redirect(location: str) -> Answer:
    """Return a redirection to another address."""
    return respond(b"", "302 Found", extra=f"Location: {location}\r\n")


def reset_after(body: bytes) -> Answer:
    """Return an answer that promises more than `body` and then resets the connection."""

    def answer(connection: socket.socket) -> None:
        respond(body, length=len(body) + 1000)(connection)
        # no time to linger: closing sends RST
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    return answer


@dataclass
class Web:
    """The server's address, what it answers, and what it was asked."""

    respond = staticmethod(respond)
    redirect = staticmethod(redirect)
    reset_after = staticmethod(reset_after)

    address: str = ""
    answers: defaultdict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    asked: list[str] = field(default_factory=list)
    posted: list[bytes] = field(default_factory=list)
    passwords: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def answer(self, path: str, *answers: Answer) -> None:
        """Give these answers to the next requests for a path, the last one ever after; 404 is for all other paths."""
        self.answers[path] = list(answers)

    def serve(self, prefix: str, folder: Path) -> str:
        """Serve the files of a folder, and return their address."""
        for file in folder.iterdir():
            self.answer(f"{prefix}/{file.name}", respond(file.read_bytes()))
        return self.address + prefix

    def silence(self) -> Answer:
        """Return an answer that never comes."""
        return lambda _connection: self._wait(60)

    def stall(self, body: bytes) -> Answer:
        """Return an answer that stops in the middle of its body and keeps the connection."""

        def answer(connection: socket.socket) -> None:
            respond(body[: len(body) // 2], length=len(body))(connection)
            self._wait(60)

        return answer

    def drip(self, body: bytes) -> Answer:
        """Return an answer whose body comes a byte at a time, without end in a test's time."""

        def answer(connection: socket.socket) -> None:
            respond(b"", length=len(body))(connection)
            for index in range(len(body)):
                if self._wait(0.02):
                    return
                connection.sendall(body[index : index + 1])

        return answer

    def _wait(self, seconds: float) -> bool:
        return self.stopped.wait(seconds)

    def handle(self, connection: socket.socket) -> None:
        """Answer one request."""
        head = b""
        while b"\r\n\r\n" not in head and (received := connection.recv(65536)):
            head += received
        if not head:
            return
        head, _, body = head.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        path = lines[0].split()[1]
        self.asked.append(path)
        self.passwords += [
            base64.b64decode(line.split()[2]).decode() for line in lines if line.lower().startswith("authorization:")
        ]
        planned = self.answers.get(path)
        length = next((int(line.split()[1]) for line in lines if line.lower().startswith("content-length:")), 0)
        while len(body) < length and (received := connection.recv(65536)):
            body += received
        if body:
            self.posted.append(body)
        answer = respond(b"not here", "404 Not Found") if not planned else planned[0]
        if planned and len(planned) > 1:
            planned.pop(0)
        answer(connection)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = False
    block_on_close = True
    allow_reuse_address = True
    request_queue_size = 32
    web: Web


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        # the client leaves early when the server misbehaves, as it should
        with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.server.web.handle(self.request)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reach the loopback directly, whatever proxy the environment names."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Return a certificate for 127.0.0.1 that nobody trusts by default, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    public, now, day = key.public_key(), datetime.now(UTC), timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, public, x509.random_serial_number(), now - day, now + day)
    for extension, critical in (
        (x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False),
        # it is its own authority, and what Python 3.13 expects of one
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (x509.KeyUsage(True, False, False, False, False, True, False, False, False), True),
        (x509.SubjectKeyIdentifier.from_public_key(public), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate_file, key_file


@contextmanager
def _served(server: _Server, scheme: str) -> Iterator[Web]:
    with server:
        server.web = Web(f"{scheme}://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.web
        server.web.stopped.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def web() -> Iterator[Web]:
    """Return a web server of this test's own, on a free port of the loopback."""
    with _served(_Server(("127.0.0.1", 0), _Handler), "http") as served:
        yield served


@pytest.fixture
def tls_web(tmp_path: Path) -> Iterator[tuple[Web, Path]]:
    """Return the same behind TLS, and its certificate, which nobody trusts yet."""
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = _Server(("127.0.0.1", 0), _Handler)
    # the handshake is the handler's, in a thread of its own: it fails when the client does not trust the certificate
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with _served(server, "https") as served:
        yield served, certificate


@pytest.fixture
def nobody() -> Iterator[str]:
    """Return an address of the loopback where nothing listens: its port is taken and never accepts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
