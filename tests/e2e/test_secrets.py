"""The password of an MLflow server appears in no log and in no file, whether the training run ends well or fails."""

import pytest

from tests.servers import mlflow_server, read_until, train_process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

SECRET = "planted-secret"


def with_password(url: str) -> str:
    """Return a server's address with a user and the planted password in it."""
    return url.replace("://", f"://keeper:{SECRET}@")


@pytest.mark.parametrize("server_fails", [False, True], ids=["success", "failure"])
def test_the_password_is_in_no_log_and_no_file(tmp_path, small_folder, server_fails):
    """Every byte under the state folder and of the output is searched; `--debug` shows tracebacks too."""
    state = tmp_path / "state"
    server_folder = tmp_path / "server"
    server_folder.mkdir()
    with mlflow_server(server_folder) as (server, url):
        arguments = ("--debug", "--epochs", "3", "--source", str(small_folder))
        with train_process(state, *arguments, MLFLOW_TRACKING_URI=with_password(url)) as process:
            log = read_until(process, "Epoch 1 of ")
            if server_fails:
                server.stop()
            log += process.stderr.read().splitlines()
            assert process.wait() == (1 if server_fails else 0)
    assert (url in log[-1]) is server_fails
    assert SECRET not in "\n".join(log)
    files = [path for folder in (state, server_folder) for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
