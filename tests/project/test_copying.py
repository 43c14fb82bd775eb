"""What docs/copying.md says about other names: its lines rename everything, and what is renamed works."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service_stack import CHECKOUT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(folder: Path, *command: str) -> str:
    """Run a command in a folder with this Python's programs on the PATH, and return what it prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    names = {name: value for name, value in os.environ.items() if not name.startswith("DCGAN_")}
    done = subprocess.run(command, cwd=folder, env={**names, "PATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_lines_rename_everything(tmp_path):
    """In a fresh clone, no old name is left, the contracts hold, and the tests of renamed parts pass."""
    lines = (CHECKOUT / "docs" / "copying.md").read_text().split("```sh\n")[1].split("```")[0]
    *renaming, fix = lines.splitlines()
    assert fix == "make fix"  # sets up .venv, so that its programs are called here instead
    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "--quiet", str(CHECKOUT), str(clone))
    run(clone, "sh", "-ec", "\n".join(renaming))
    run(clone, "ruff", "format", "--quiet", ".")
    run(clone, "ruff", "check", "--quiet", "--fix", "--exit-zero", ".")
    assert run(clone, "git", "ls-files", "*dcgan*") == ""
    assert run(clone, "sh", "-c", "git grep -I -e dcgan -e DCGAN_ || true") == ""
    run(clone, "lint-imports")
    selected = ("tests/shapes/test_recipe.py", "tests/flows/test_hyperparameters.py", "tests/tasks/test_promote.py")
    assert " passed" in run(clone, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *selected)
