"""What a training left: everything that must be the same however often it was killed, and there exactly once."""

import hashlib
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from benchmarks.chaos_moments import LAST_STATE
from benchmarks.chaos_training import Place
from dcgan.checkpoint_files import load_checkpoint
from dcgan.files import TEMPORARY_PREFIX, sha256_of_file
from dcgan.rendering import read_png
from tasks.settings import Settings

if TYPE_CHECKING:
    from tasks.tracking.store import Store

TIMES = ("images_per_second", "seconds", "memory")  # in the names of metrics that no two trainings share


class Outcome(BaseModel):
    """The traces of a finished training; two are equal when nobody could tell which one was killed."""

    model_config = ConfigDict(frozen=True)

    weights_sha256: str
    metrics: dict[str, list[tuple[int, float]]]
    measurements: dict[str, list[int]]
    pictures: dict[int, list[str]]
    animation: str
    checkpoints: dict[str, str]
    runs: list[str]
    recorded_epochs: str
    logged_models: int
    versions: list[str]
    leftovers: list[str]

    def differences(self, other: "Outcome") -> list[str]:
        """Return what differs, by name."""
        mine, others = self.model_dump(), other.model_dump()
        return [
            f"{name}: {_brief(mine[name])} instead of {_brief(others[name])}"
            for name in mine
            if mine[name] != others[name]
        ]


def outcome(place: Place) -> Outcome:
    """Return what the finished training at a place left in its state folder and MLflow."""
    from tasks.tracking.runs import RECORDED_EPOCHS

    store = open_store(place)
    runs = store.client.search_runs([store.experiment_id])
    run = runs[0]
    run_id = run.info.run_id
    artifacts = place.state / "mlartifacts" / "dcgan" / run_id / "artifacts"
    checkpoints = (artifacts / "checkpoints").iterdir()
    histories = {
        name: sorted((metric.step, metric.value) for metric in store.client.get_metric_history(run_id, name))
        for name in run.data.metrics
        if not name.startswith("system/")
    }
    return Outcome(
        weights_sha256=load_checkpoint(place.state / "runs" / run_id / "states" / LAST_STATE).weights_sha256(),
        metrics={name: values for name, values in histories.items() if not _is_time(name)},
        measurements={name: [step for step, _ in values] for name, values in histories.items() if _is_time(name)},
        pictures=_pictures(artifacts / "images"),
        animation=sha256_of_file(artifacts / "report" / "training.gif"),
        checkpoints={path.name: load_checkpoint(path).weights_sha256() for path in checkpoints},
        runs=[each.info.status for each in runs],
        recorded_epochs=run.data.tags[RECORDED_EPOCHS],
        logged_models=len(store.client.search_logged_models([store.experiment_id])),
        versions=[version.tags["dcgan.weights_sha256"] for version in store.client.search_model_versions()],
        leftovers=_leftovers(place),
    )


def is_finished(place: Place) -> bool:
    """Return whether the training at a place had come to its end in MLflow, so that there is nothing to continue."""
    if not (place.state / "mlflow.db").exists():
        return False
    store = open_store(place)
    return [run.info.status for run in store.client.search_runs([store.experiment_id])] == ["FINISHED"]


def open_store(place: Place) -> "Store":
    """Return MLflow's store of a place."""
    from tasks.tracking.store import Store

    return Store(Settings(state=place.state, mlflow_uri=None))


def _pictures(folder: Path) -> dict[int, list[str]]:
    """Return the SHA-256 of the pixels of every picture, by its epoch."""
    pictures = defaultdict(list)
    for path in folder.glob("*.png"):
        pixels = read_png(path.read_bytes())
        pictures[int(path.name.split("+")[2])].append(hashlib.sha256(pixels.tobytes()).hexdigest())
    return dict(sorted(pictures.items()))


def _leftovers(place: Place) -> list[str]:
    half = place.state.rglob(f"{TEMPORARY_PREFIX}*")
    waiting = place.state.glob("runs/*/checkpoints/*")
    return sorted(str(path.relative_to(place.root)) for path in [*half, *waiting, *place.temporary.iterdir()])


def _is_time(name: str) -> bool:
    return any(word in name for word in TIMES)


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) < 80 else f"{text[:77]}..."
