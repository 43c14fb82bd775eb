"""The `dcgan` command in a process that kills itself: `python -m tests.e2e.kill_at "training an epoch" train --seed 1`.

A kill point is a call of a function. SIGKILL leaves no time to clean up, as when a machine loses its power.
"""

import os
import pkgutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from unittest import mock

from dcgan.recipe import SMOKE
from flows import cli
from tracking.tags import RECORDED_EPOCHS

EPOCH = 2  # of three: there is one to resume from, and one to train afterwards
CHECKPOINT = f"checkpoints/epoch-{EPOCH:06d}/"
FIRST_STEP = SMOKE.max_images // SMOKE.batch_size * (EPOCH - 1)


class KillPoint(NamedTuple):
    """A call at which the process is killed.

    Attributes:
        function: Dotted name of the function, where its caller looks it up.
        when: Tells by the call's arguments whether it is the one.
        after: Whether the call is completed first.
    """

    function: str
    when: Callable[..., bool] = lambda *_, **__: True
    after: bool = False


MLFLOW = "mlflow.MlflowClient"
# in the order in which a training run comes to them
TRAINING_POINTS = {
    "preparing the data": KillPoint("dcgan.data.dataset.write_parquet", lambda path, *_: path.stem == "test"),
    "creating MLflow's database": KillPoint(
        "shutil.copyfile", lambda source, *_: Path(source).name.startswith("mlflow-"), after=True
    ),
    "between the run and its parameters": KillPoint(f"{MLFLOW}.create_run", after=True),
    "training an epoch": KillPoint("dcgan.training.step.Gan.run", lambda *args: args[2] >= FIRST_STEP, after=True),
    "writing a state": KillPoint("numpy.savez", lambda _, **arrays: len(arrays["history/grids"]) == EPOCH, after=True),
    "between metrics and samples": KillPoint(f"{MLFLOW}.log_image", lambda *_, step=None, **__: step == EPOCH),
    "between a sample grid and its small copy": KillPoint(
        "PIL.Image.Image.save", lambda _, path, *__: f"+step+{EPOCH}+" in str(path) and str(path).endswith(".webp")
    ),
    "between samples and marker": KillPoint(f"{MLFLOW}.set_tag", lambda *args: args[2:4] == (RECORDED_EPOCHS, EPOCH)),
    "uploading a checkpoint": KillPoint("shutil.copy2", lambda _, path, **__: CHECKPOINT in str(path), after=True),
    "after the last epoch": KillPoint("tasks.render.write_animation"),
    "logging the model": KillPoint("mlflow.keras.save_model", after=True),
    "between model and version": KillPoint(f"{MLFLOW}.create_model_version"),
    "between the removals of checkpoints": KillPoint(
        "mlflow.store.artifact.local_artifact_repo.LocalArtifactRepository.delete_artifacts", after=True
    ),
    "between the version and the end of the run": KillPoint(f"{MLFLOW}.set_terminated"),
}
PROMOTION_POINTS = {"between the aliases": KillPoint(f"{MLFLOW}.set_registered_model_alias", after=True)}


def main(name: str, arguments: Sequence[str]) -> int:
    """Run a command, and kill this process at a kill point; return the exit code if it is never reached."""
    function, when, after = {**TRAINING_POINTS, **PROMOTION_POINTS}[name]
    original = pkgutil.resolve_name(function)

    def deadly(*args: Any, **kwargs: Any) -> Any:
        hit = when(*args, **kwargs)
        if hit and not after:
            _kill()
        result = original(*args, **kwargs)
        if hit:
            _kill()
        return result

    with mock.patch(function, deadly):
        return cli.main(arguments)


def _kill() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL cannot be caught")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
