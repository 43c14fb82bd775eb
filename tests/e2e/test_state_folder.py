"""A state folder with characters that addresses and shells give a meaning to works like any other."""

import pytest

from tests.servers import train_process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_unusual_characters_in_the_state_folder(tmp_path, small_folder):
    """Everything lies in this folder, and nothing beside it."""
    state = tmp_path / 'it\'s a "new" & größer; $HOME @work +1' / "state"
    state.parent.mkdir()
    with train_process(state, "--source", str(small_folder)) as process:
        log = process.stderr.read()
        assert process.wait() == 0, log
    assert [path.name for path in tmp_path.iterdir()] == [state.parent.name]
    assert [path.name for path in state.parent.iterdir()] == ["state"]
    assert {"mlflow.db", "mlartifacts", "prefect", "runs"} <= {path.name for path in state.iterdir()}
    assert list((state / "mlartifacts").rglob("model.keras"))
