"""Every request to MLflow fails once, before or after the server has done it: everything is there exactly once."""

import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

import httpx
import pytest
from mlflow import MlflowClient

from tests.e2e.test_servers_away import require_everything_once
from tests.servers import mlflow_server, train_process
from tracking.tags import MODEL_NAME

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

EPOCHS = 2
Failure = Literal["unanswered", "unavailable"]
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-encoding", "content-length", "host"}


class UnreliableProxy(ThreadingHTTPServer):
    """Passes requests on to a server, and lets the first request to each of its endpoints fail.

    Args:
        server: Address of the server.
        failure: `unanswered` passes the request on and drops the reply; `unavailable` answers 503 instead.

    Attributes:
        failed: The endpoints that have failed once.
    """

    def __init__(self, server: str, failure: Failure) -> None:
        super().__init__(("127.0.0.1", 0), _Passage)
        self.client = httpx.Client(base_url=server, timeout=60, trust_env=False)
        self.failure = failure
        self.failed: Counter[str] = Counter()
        self.lock = threading.Lock()

    def fails(self, endpoint: str) -> bool:
        """Return whether this request is the first one to its endpoint; the question before all others never fails."""
        if endpoint == "GET /health":
            return False
        with self.lock:
            self.failed[endpoint] += 1
            return self.failed[endpoint] == 1


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
def unreliable(server: str, failure: Failure) -> Iterator[tuple[UnreliableProxy, str]]:
    """Yield a proxy in front of a server, and its address."""
    with UnreliableProxy(server, failure) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy, f"http://127.0.0.1:{proxy.server_address[1]}"
        finally:
            proxy.shutdown()
            thread.join()
            proxy.client.close()


@pytest.mark.parametrize("failure", ["unanswered", "unavailable"])
def test_each_endpoint_fails_once(failure, tmp_path, small_folder):
    """One run, one of each metric, grid and checkpoint, one logged model, and one version, in the end."""
    with mlflow_server(tmp_path) as (_, url), unreliable(url, failure) as (proxy, address):
        with train_process(
            tmp_path / "state", "--epochs", str(EPOCHS), "--source", str(small_folder), MLFLOW_TRACKING_URI=address
        ) as process:
            log = process.stderr.read()
            assert process.wait() == 0, log
        failed = set(proxy.failed)
        assert {
            "POST /api/2.0/mlflow/experiments/create",
            "POST /api/2.0/mlflow/runs/create",
            "POST /api/2.0/mlflow/runs/log-batch",
            "POST /api/2.0/mlflow/runs/set-tag",
            "POST /api/2.0/mlflow/runs/update",
            "POST /api/2.0/mlflow/logged-models",
            "PATCH /api/2.0/mlflow/logged-models/ID",
            "POST /api/2.0/mlflow/registered-models/create",
            "POST /api/2.0/mlflow/model-versions/create",
            "PUT /api/2.0/mlflow-artifacts/artifacts",
        } <= failed, failed

        client = MlflowClient(url)
        run_id = require_everything_once(client, EPOCHS)
        run = client.get_run(run_id)
        assert run.info.status == "FINISHED"
        assert len(run.inputs.dataset_inputs) == 2
        (logged,) = client.search_logged_models([run.info.experiment_id])
        assert (logged.status, logged.source_run_id) == ("READY", run_id)
        (version,) = client.search_model_versions(f"name = '{MODEL_NAME}'")
        assert (version.run_id, version.source) == (run_id, f"models:/{logged.model_id}")
