"""The Makefile: what `make help` says and what `make train` passes on."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from flows.parameters import TrainParameters

CHECKOUT = Path(__file__).resolve().parents[2]


def make(*arguments: str, **environment: str) -> str:
    """Return what make prints in the checkout."""
    # MAKEFLAGS: under `make test` this make would else take itself for its child
    inherited = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    done = subprocess.run(
        ["make", *arguments], cwd=CHECKOUT, env={**inherited, **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout


def targets() -> set[str]:
    """Return the targets that a person may name."""
    return set(re.findall(r"^([a-z][a-z0-9-]*):", (CHECKOUT / "Makefile").read_text(), flags=re.MULTILINE))


def train_flags(*variables: str, **environment: str) -> list[str]:
    """Return the flags that `make train` would give to the pipeline."""
    command = make("--dry-run", "--old-file=.venv/installed-app", "train", *variables, **environment)
    return shlex.split(command.split("-m flows.train", 1)[1].replace("\\\n", " "))


def test_help_explains_every_target() -> None:
    """`make` alone prints help, and help has a line with words for each target."""
    explained = dict(re.findall(r"^  ([a-z][a-z0-9-]*) +(\S.*)$", make(), flags=re.MULTILINE))
    assert set(explained) == targets()
    assert make() == make("help")


def test_promised_targets_exist() -> None:
    """The targets that the documents and the CI rely on are there."""
    promised = {"help", "setup", "train", "test", "test-e2e", "test-browser", "check", "fix", "bench", "ui", "deploy"}
    assert promised | {"clean", "lock"} <= targets()


def test_every_target_is_phony() -> None:
    """No target can be shadowed by a file of its name: tests/ and data/ are names that a file may have."""
    phony = re.search(r"^\.PHONY: (.*)$", (CHECKOUT / "Makefile").read_text(), flags=re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == targets()


def test_train_passes_every_parameter() -> None:
    """Each parameter of the pipeline is a variable of `make train` and reaches it whole, with spaces and quotes."""
    given = {name: f"a value's {name}" for name in TrainParameters.model_fields}
    flags = train_flags(*(f"{name.upper()}={value}" for name, value in given.items()))
    assert dict(zip(flags[::2], flags[1::2], strict=True)) == {f"--{name}": value for name, value in given.items()}


def test_train_ignores_the_environment() -> None:
    """A variable of the environment that is called SEED does not change a training."""
    assert train_flags(SEED="7", ARGS="--debug") == []


@pytest.mark.parametrize("python", ["/no/such/python", "/bin/false"])
def test_unusable_python_is_one_sentence(python: str, tmp_path: Path) -> None:
    """An interpreter that is absent or does not run is refused with what is wanted and how to name another."""
    done = subprocess.run(
        ["make", "--makefile", str(CHECKOUT / "Makefile"), ".venv/bin/activate", f"PYTHON={python}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode
    assert done.stderr.splitlines()[0] == (
        "No usable Python 3.11, 3.12 or 3.13 with its venv module was found: install one or name it, as in "
        "'make setup PYTHON=/path/to/python3.11'."
    )
    assert list(tmp_path.iterdir()) == []
