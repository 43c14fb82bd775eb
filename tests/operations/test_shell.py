"""What `make env` prints, taken by a real shell."""

import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def test_a_shell_takes_the_lines(tmp_path: Path) -> None:
    """After `eval`, the shell knows both servers, the state folder and the environment's programs, twice the same."""
    state = tmp_path / "a state's folder"
    environment = {**os.environ, "DCGAN_STATE": str(state)}
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "PREFECT_HOME", "DO_NOT_TRACK"):
        environment.pop(name, None)
    once = f'eval "$({sys.executable} -m operations.shell)"'
    show = 'echo "$PREFECT_API_URL|$MLFLOW_TRACKING_URI|$DCGAN_STATE|$PREFECT_HOME|$DO_NOT_TRACK"; command -v prefect'
    program = f"{once}; {show}; {once}; {show}"
    done = subprocess.run(
        ["sh", "-c", program], cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True
    )
    expected = [
        f"http://127.0.0.1:4200/api|http://127.0.0.1:5000|{state}|{state}/prefect|1",
        str(Path(sys.executable).parent / "prefect"),
    ]
    assert done.stdout.splitlines() == expected * 2
