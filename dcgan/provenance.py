"""What the bits of a training run depend on besides its data: configuration, code and machine."""

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

from pydantic import BaseModel, ConfigDict, Field, field_validator

from dcgan.recipe import Recipe

PACKAGES = ("tensorflow", "keras", "numpy")
LIBRARY = Path(__file__).parent
# what determines the weights and which epoch's are selected; not the report, the gate or the exports
WEIGHT_CODE = (
    *("recipe.py", "rng.py", "data", "model", "cpu", "training"),
    *(f"evaluation/{name}.py" for name in ("features", "metrics", "classifiers", "evaluate")),
)


class Configuration(BaseModel):
    """What is trained on what: runs with equal configurations, code and machines end in the same bits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe = Field(description="Hyperparameters of the training run, with a precision in place of auto")
    seed: int = Field(ge=0, lt=2**31, description="Random seed of the training run")
    dataset_digest: str = Field(description="SHA-256 of the dataset, from its manifest")

    @field_validator("recipe")
    @classmethod
    def _require_a_precision(cls, recipe: Recipe) -> Recipe:
        if recipe.precision == "auto":
            raise ValueError("The precision auto depends on the machine; expected what it is on this one.")
        return recipe

    def fingerprint(self) -> str:
        """Return the SHA-256 that two runs share when recipe, seed, data and code are the same."""
        return hashlib.sha256(f"{self.model_dump_json()}\n{code_digest()}".encode()).hexdigest()

    def differences(self, other: "Configuration") -> list[str]:
        """Return the names of the fields in which the two differ, with both values."""
        mine, others = self._flat(), other._flat()
        return [f"{name} ({mine[name]!r}, here {others[name]!r})" for name in mine if mine[name] != others[name]]

    def _flat(self) -> dict[str, Any]:
        return {**self.recipe.model_dump(), "seed": self.seed, "dataset_digest": self.dataset_digest}


@functools.cache
def code_digest() -> str:
    """Return the SHA-256 over names and contents of the modules that determine the weights.

    It is computed once per process: what is edited during a training run is not the code that runs.
    """
    digest = hashlib.sha256()
    found = (path for name in WEIGHT_CODE for path in [LIBRARY / name, *(LIBRARY / name).rglob("*.py")])
    for path in sorted(path for path in found if path.is_file()):
        digest.update(f"{path.relative_to(LIBRARY).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


@functools.cache
def environment() -> Mapping[str, str]:
    """Return what else the bits depend on: package versions, Python, the processor and its number of threads."""
    return MappingProxyType(
        {
            **{package: version(package) for package in PACKAGES},
            "python": platform.python_version(),
            "processor": _processor(),
            "threads": str(_threads()),
        }
    )


def _threads() -> int:
    """Return over how many threads TensorFlow divides an operation: another number changes the order of sums."""
    wanted = os.environ.get("TF_NUM_INTRAOP_THREADS", "").strip()
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _processor() -> str:
    """Return the processor's model name; two models may round differently."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
