"""The lines of docs/serving.md, run as they stand against a real version, and MLflow's real server."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tracking.registry import load_generator, resolve, set_alias
from tracking.tags import CHAMPION, MODEL_NAME

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "serving.md"
BIN = f"{Path(sys.executable).parent}/"
PORT = "5002"
READY_SECONDS = 180
# what MLflow's server answers, as the document says: status, and a part of the answer
UNUSABLE = (
    ([[0.0] * 99], "400", "does not match expected shape (-1, 100)"),
    ([], "400", "Failed to enforce schema"),
    ([[float("nan")] * 100], "200", '{"predictions": [[[[NaN],'),
)
SAVE = "\nimport numpy as np; np.savez('found.npz', latents=latents, images=images)\n"


def blocks(language: str) -> list[str]:
    """Return the document's blocks of code, with the commands of this environment."""
    found = re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [block.replace(".venv/bin/", BIN) for block in found]


def block(language: str, part: str) -> str:
    """Return the only block that contains `part`."""
    (found,) = (each for each in blocks(language) if part in each)
    return found


@pytest.fixture
def champion(trained) -> Iterator[int]:
    """Return the number of a version in service."""
    set_alias(trained.context.store, CHAMPION, trained.version)
    yield trained.version
    trained.context.store.client.delete_registered_model_alias(MODEL_NAME, CHAMPION)


@pytest.fixture
def environment(trained) -> dict[str, str]:
    """Return the environment of a shell that uses the store, as the document's first line makes it."""
    line = block("sh", "make env").strip().replace("make env", f"{BIN}dcgan env")
    shell = subprocess.run(["bash", "-e", "-c", f"{line}; env -0"], capture_output=True, text=True, check=True)
    made = dict(variable.split("=", 1) for variable in shell.stdout.rstrip("\0").split("\0"))
    return {**made, "MLFLOW_TRACKING_URI": trained.context.store.uri, "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture
def expected(trained, champion):
    """Return the function from latents to the version's images."""
    return load_generator(trained.context.store, resolve(trained.context.store, champion))


@pytest.fixture
def served(champion, environment, free_port, tmp_path) -> Iterator[str]:
    """Start MLflow's server by the document's line, at another port, and return that port."""
    line = block("sh", "models serve").strip()
    assert line.endswith(f"--port {PORT}")
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(
            ["bash", "-c", f"exec {line.replace(PORT, str(free_port))}"],
            cwd=tmp_path,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + READY_SECONDS
            while not answers(free_port):
                assert server.poll() is None, (tmp_path / "server.log").read_text()
                assert time.monotonic() < deadline, (tmp_path / "server.log").read_text()
                time.sleep(0.5)
            yield str(free_port)
        finally:
            os.killpg(server.pid, 15)
            server.wait(30)


def answers(port: int) -> bool:
    """Return whether a server listens on a port of the loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def shell(code: str, folder: Path, environment: dict[str, str]) -> None:
    subprocess.run(["bash", "-e", "-c", code], cwd=folder, env=environment, check=True)


def python(code: str, folder: Path, environment: dict[str, str]) -> dict[str, np.ndarray]:
    """Run a block in a process that is not in this checkout, and return its latents and images."""
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=True)
    with np.load(folder / "found.npz") as found:
        return dict(found)


def test_mlflow_serves_the_champion(served, expected, environment, tmp_path):
    """The request of the document gets the generator's images, and other latents what the document says."""
    request = block("sh", "curl --fail-with-body --header")
    shell(request.replace(PORT, served), tmp_path, environment)
    latents = np.array(json.loads((tmp_path / "request.json").read_text())["inputs"], np.float32)
    images = np.array(json.loads((tmp_path / "images.json").read_text())["predictions"])
    assert images.shape == (16, 28, 28, 1)
    np.testing.assert_allclose(images, expected(latents), rtol=0, atol=1e-5)
    for inputs, code, part in UNUSABLE:
        (tmp_path / "request.json").write_text(json.dumps({"inputs": inputs}))
        command = request.splitlines()[1].replace(PORT, served) + " --write-out '%{http_code}'; cat images.json"
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.stdout.endswith(code), inputs
        assert part in done.stdout, inputs


@pytest.mark.parametrize("part", ["mlflow.pyfunc", "mlflow.keras"])
def test_python_with_mlflow(part, champion, expected, environment, tmp_path):
    """Both ways of MLflow give the generator's images."""
    code = block("python", part)
    loaded = {"mlflow.keras": "network", "mlflow.pyfunc": "generator"}[part]
    kept = [line for line in code.splitlines() if loaded in line or not re.match("network|generator|images", line)]
    found = python("\n".join(kept) + SAVE, tmp_path, environment)
    np.testing.assert_allclose(found["images"], expected(found["latents"]), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("prepared_by", "part"), [("artifacts download", "keras.saving"), ("dcgan export", "onnx")])
def test_python_without_mlflow(prepared_by, part, champion, expected, environment, tmp_path):
    """Keras and ONNX Runtime give the generator's images, from the files of the line before."""
    shell(block("sh", prepared_by), tmp_path, environment)
    found = python(block("python", part) + SAVE, tmp_path, environment)
    np.testing.assert_allclose(found["images"], expected(found["latents"]), rtol=0, atol=1e-5)
