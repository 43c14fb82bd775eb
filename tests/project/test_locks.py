"""The locks in requirements/: complete, bound to no index, and within the bounds of pyproject.toml."""

import itertools
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).resolve().parents[2]
LOCKS = ("app", "dev", "gpu", "production")
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
DEPENDENCIES: list[str] = PROJECT["project"]["dependencies"]
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]


def text(name: str) -> str:
    """Return a lock's text, one requirement with its hashes a line."""
    return (CHECKOUT / "requirements" / f"{name}.txt").read_text().replace("\\\n", "")


def entries(name: str) -> list[str]:
    """Return a lock's lines without comments."""
    return [line for line in text(name).splitlines() if line and not line.lstrip().startswith("#")]


def locked(name: str) -> dict[str, str]:
    """Return the versions of a lock by canonical package name."""
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1].split()[0] for line in entries(name)}


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_is_pinned_and_hashed(name: str) -> None:
    """Each requirement has an exact version and a SHA-256, as pip's --require-hashes expects."""
    expected = re.compile(r"[A-Za-z0-9._-]+==\S+( ; [^-]+)?( +--hash=sha256:[0-9a-f]{64})+ *")
    assert [line[:80] for line in entries(name) if not expected.fullmatch(line)] == []
    assert len(entries(name)) > 50


@pytest.mark.parametrize("name", LOCKS)
def test_no_lock_names_an_index(name: str) -> None:
    """No host, no path and no option but hashes is in a lock, so that it works with any index."""
    assert re.findall(r"\w+://\S+|--(?!hash)\S+|^-\w.*", text(name), flags=re.MULTILINE) == []


@pytest.mark.parametrize(
    ("name", "requirements"),
    [
        ("app", DEPENDENCIES),
        ("dev", DEPENDENCIES + PROJECT["dependency-groups"]["dev"] + EXTRAS["production"]),
        ("gpu", DEPENDENCIES + EXTRAS["gpu"]),
        ("production", DEPENDENCIES + EXTRAS["production"]),
    ],
)
def test_bounds_admit_what_is_locked(name: str, requirements: list[str]) -> None:
    """Every dependency of pyproject.toml is in the lock, at a version within its bounds."""
    versions = locked(name)
    required = [Requirement(requirement) for requirement in requirements]
    assert [str(one) for one in required if not one.specifier.contains(versions[canonicalize_name(one.name)])] == []


@pytest.mark.parametrize("name", ["dev", "gpu", "production"])
def test_other_locks_contain_the_application(name: str) -> None:
    """Installing a larger lock over the application's changes none of its packages."""
    assert locked("app").items() <= locked(name).items()


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(LOCKS, 2)))
def test_locks_agree(one: str, other: str) -> None:
    """Two locks can be installed one after the other, as `make setup GPU=1 PRODUCTION=1` does."""
    versions = locked(other)
    shared = locked(one).keys() & versions.keys()
    assert len(shared) > 50
    assert {name: locked(one)[name] for name in shared} == {name: versions[name] for name in shared}
