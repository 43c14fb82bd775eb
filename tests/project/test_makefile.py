"""The Makefile: what `make help` says, what `make train` passes on, and which variables are refused."""

import inspect
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from flows.train import dcgan

CHECKOUT = Path(__file__).resolve().parents[2]
PARAMETERS = list(inspect.signature(dcgan.fn).parameters)


def run_make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run make in the checkout."""
    # MAKEFLAGS: otherwise this make would take itself for a child of the one that runs the tests
    inherited = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    return subprocess.run(
        ["make", *arguments],
        cwd=CHECKOUT,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def make(*arguments: str, **environment: str) -> str:
    """Return what make prints in the checkout."""
    done = run_make(*arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def targets() -> set[str]:
    """Return the targets that a user may name."""
    return set(re.findall(r"^([a-z][a-z0-9-]*):", (CHECKOUT / "Makefile").read_text(), flags=re.MULTILINE))


def train_flags(*variables: str, **environment: str) -> list[str]:
    """Return the flags that `make train` would give to the pipeline."""
    command = make("--dry-run", "--old-file=.venv/installed-app", "train", *variables, **environment)
    return shlex.split(command.split("/dcgan train", 1)[1].replace("\\\n", " "))


def test_help_explains_every_target() -> None:
    """`make` alone prints help, and help has a line with words for each target."""
    explained = dict(re.findall(r"^  ([a-z][a-z0-9-]*) +(\S.*)$", make(), flags=re.MULTILINE))
    assert set(explained) == targets()
    assert make() == make("help")


def test_promised_targets_exist() -> None:
    """The targets that the documents and the CI rely on exist."""
    promised = {"help", "setup", "train", "test", "test-slow", "test-e2e", "test-browser", "check", "fix", "docs"}
    assert promised | {"bench", "chaos", "ui", "stack", "test-stack", "deploy", "env", "clean", "lock"} <= targets()


def test_every_target_is_phony() -> None:
    """No target can be shadowed by a file of its name: tests/ and docs/ exist."""
    phony = re.search(r"^\.PHONY: (.*)$", (CHECKOUT / "Makefile").read_text(), flags=re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == targets()


def test_train_passes_every_parameter() -> None:
    """Each parameter of the pipeline is a variable of `make train` and reaches it complete, with spaces and quotes."""
    values = {name: f"a value's {name}" for name in PARAMETERS if name != "hyperparameters"}
    flags = train_flags(*(f"{name.upper()}={value}" for name, value in values.items()))
    assert dict(zip(flags[::2], flags[1::2], strict=True)) == {f"--{name}": value for name, value in values.items()}
    assert train_flags("SET=beta_1=0.5 name=it's") == ["--set", "beta_1=0.5", "--set", "name=it's"]


def test_train_ignores_the_environment() -> None:
    """An environment variable that is called SEED does not change a training run."""
    assert train_flags(SEED="7", ARGS="--debug") == []


@pytest.mark.parametrize("target", ["train", "test", "help"])
@pytest.mark.parametrize("name", ["LR", "EPOCH", "seed"])
def test_unknown_variable_is_refused_by_name(target: str, name: str) -> None:
    """A variable that no target knows stops make before anything runs; a misspelt one would change nothing."""
    done = run_make("-n", target, f"{name}=0.1")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert re.search(rf"\b{name}\b.*; expected one of .*\bEPOCHS\b", line)


def test_setup_installs_the_checkout() -> None:
    """`make setup` installs the checkout itself, so that .venv/bin/dcgan exists."""
    commands = make("--dry-run", "--assume-new=requirements/app.txt", "setup").replace("\\\n", " ").splitlines()
    assert any(re.search(r"pip install .*--editable \.", line) for line in commands)


@pytest.mark.parametrize("python", ["/no/such/python", "/bin/false"])
def test_unusable_python_is_one_sentence(python: str, tmp_path: Path) -> None:
    """An interpreter that does not exist or does not run is refused with what is expected and how to name another."""
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
