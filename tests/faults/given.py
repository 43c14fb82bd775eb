"""The ways in which bad input is made and given to the program, for the table of tests/flows/test_bad_input.py."""

import gzip
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import Template
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from prefect import Flow
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.testing.cli import invoke_and_assert

from dcgan.checkpoint_files import load_checkpoint
from dcgan.idx import idx_header
from dcgan.mnist import TEST, TRAIN
from dcgan.parquet import read_parquet
from flows import train
from flows.command import run_command
from tasks.downloads import obtain
from tasks.web import Limits
from tests.faults.web import FAULTS, FIRST

HASTY = Limits(connect_seconds=0.4, answer_seconds=0.4, read_seconds=0.6, file_seconds=1, file_bytes=200_000)
IMAGES, LABELS, TEST_LABELS = (f"{file.name}.gz" for file in (TRAIN.images, TRAIN.labels, TEST.labels))


@dataclass
class Place:
    """A folder that holds everything a case may touch, and what its texts call things."""

    request: pytest.FixtureRequest
    folder: Path
    names: dict[str, str]

    def fixture(self, name: str) -> Any:
        """Return a fixture that only this case needs."""
        return self.request.getfixturevalue(name)

    def filled(self, text: str) -> str:
        """Return a text with the names in it."""
        return Template(text).substitute(self.names)


Arranged = Callable[[Place], Callable[[], int]]
Spoil = Callable[[Path], object]


class Case(NamedTuple):
    """One row of the table.

    Attributes:
        arrange: makes the bad input, and returns what gives it to the program and returns the exit code.
        sentence: what is read last; $NAME stands for one of the place's names, ... for anything.
        code: the exit code.
        keeps: what may be new below the place's folder: whole, and used by the next run.
    """

    arrange: Arranged
    sentence: str
    code: int = 1
    keeps: str = ""


def typed(command: ModuleType, *arguments: str, beside: Callable[[Place], object] = lambda _: None) -> Arranged:
    """Type a command, after something else was arranged."""

    def arrange(place: Place) -> Callable[[], int]:
        beside(place)
        return lambda: command.main([place.filled(argument) for argument in arguments])

    return arrange


def digits(spoil: Spoil) -> Arranged:
    """Train on a copy of the small data set that was spoilt."""

    def beside(place: Place) -> None:
        folder = place.folder / "digits"
        shutil.copytree(place.fixture("small_folder"), folder)
        spoil(folder)

    return typed(train, "--source", "$folder/digits", beside=beside)


def served(fault: str) -> Arranged:
    """Download from a server with a fault, with limits that do not take minutes."""

    def arrange(place: Place) -> Callable[[], int]:
        web, small = place.fixture("web"), place.fixture("small_folder")
        place.names["web"] = source = web.serve("/x", small)
        for name in (FIRST, FIRST.removesuffix(".gz")):
            web.answer(f"/x/{name}", FAULTS[fault][0](web, (small / FIRST).read_bytes()))
        return lambda: run_command(lambda: obtain(source, place.folder / "downloads", limits=HASTY), debug=False)

    return arrange


def parquet(make: Spoil) -> Arranged:
    """Read a Parquet file."""

    def arrange(place: Place) -> Callable[[], int]:
        make(path := place.folder / "train.parquet")
        return lambda: run_command(lambda: read_parquet(path), debug=False)

    return arrange


def checkpoint(spoil: Spoil) -> Arranged:
    """Read a checkpoint that was spoilt."""

    def arrange(place: Place) -> Callable[[], int]:
        folder = place.folder / "epoch-000002"
        shutil.copytree(place.fixture("trained").run.folder / "states" / folder.name, folder)
        spoil(folder)
        return lambda: run_command(lambda: load_checkpoint(folder), debug=False)

    return arrange


def deployed(flow: Flow[..., Any], parameter: str) -> Arranged:
    """Run `prefect deployment run` with a parameter."""

    def arrange(_place: Place) -> Callable[[], int]:
        flow.to_deployment(name="deployed").apply()
        command = ["deployment", "run", f"{flow.name}/deployed", "--param", parameter]
        return lambda: invoke_and_assert(command, expected_code=None).exit_code

    return arrange


def setting(variable: str, value: str) -> Arranged:
    """Train with an environment variable that cannot be used."""

    def arrange(place: Place) -> Callable[[], int]:
        place.fixture("monkeypatch").setenv(variable, place.filled(value))
        api = os.environ[variable] if variable == "PREFECT_API_URL" else PREFECT_API_URL.value()

        def give() -> int:
            with temporary_settings({PREFECT_API_URL: api}):
                return train.main(["--recipe", "smoke", "--source", place.names["small"]])

        return give

    return arrange


def in_service(command: ModuleType, *arguments: str) -> Arranged:
    """Type a command where generators are registered."""
    return typed(command, *arguments, beside=lambda place: place.fixture("in_service"))


def resumed(seed: int) -> Arranged:
    """Resume a run that is there, with a seed."""
    flags = ("--recipe", "smoke", "--source", "$small", "--seed", str(seed), "--resume", "$run")
    return typed(train, *flags, beside=lambda place: place.names.update(run=place.fixture("trained").run.run_id))


def asked(latents: np.ndarray) -> Arranged:
    """Ask a registered version for pictures, as MLflow's server does."""

    def arrange(place: Place) -> Callable[[], int]:
        from tasks.tracking.models import load_generator

        model = load_generator(place.fixture("trained").version)
        return lambda: run_command(lambda: model.predict(latents), debug=False)

    return arrange


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def write_labels(path: Path, labels: list[int]) -> None:
    """Write labels as a gzipped IDX file."""
    path.write_bytes(gzip.compress(idx_header(np.array(labels, np.uint8)) + bytes(labels)))
