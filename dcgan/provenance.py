"""What a training's bits depend on besides its data: the configuration, the library's code, and the machine."""

import functools
import hashlib
import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from dcgan.recipe import Recipe

PACKAGES = ("tensorflow", "keras", "numpy")


class Configuration(BaseModel):
    """What is trained on what: two trainings with equal configurations, code and machines end in the same bits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    seed: int = Field(ge=0, lt=2**31)
    dataset_digest: str = Field(description="SHA-256 of the data set, from its manifest")

    def fingerprint(self) -> str:
        """Return the SHA-256 that two trainings share when recipe, seed, data and code are the same."""
        return hashlib.sha256(f"{self.model_dump_json()}\n{code_digest()}".encode()).hexdigest()

    def differences(self, other: "Configuration") -> list[str]:
        """Return the names of the fields in which the two differ, the recipe's with their values here and there."""
        mine, others = self._flat(), other._flat()
        return [f"{name} ({mine[name]!r}, here {others[name]!r})" for name in mine if mine[name] != others[name]]

    def _flat(self) -> dict[str, Any]:
        return {**self.recipe.model_dump(), "seed": self.seed, "dataset_digest": self.dataset_digest}


@functools.cache
def code_digest() -> str:
    """Return the SHA-256 over the names and contents of the library's own modules.

    It is read once: what is edited while a training runs is not the code that runs.
    """
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


@functools.cache
def environment() -> Mapping[str, str]:
    """Return what else the bits depend on: package versions, Python, the processor and its threads."""
    return MappingProxyType(
        {
            **{package: version(package) for package in PACKAGES},
            "python": platform.python_version(),
            "processor": _processor(),
            "threads": str(_threads()),
        }
    )


def _threads() -> int:
    """Return over how many threads TensorFlow divides an operation: with another number it sums in another order."""
    wanted = os.environ.get("TF_NUM_INTRAOP_THREADS", "").strip()
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _processor() -> str:
    """Return the processor's model name; two models may round differently."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
