"""Training runs that are killed and resumed, and compared with one that was never interrupted."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil
from imageio.v3 import imread
from mlflow import MlflowClient

from dcgan.files import TEMPORARY_PREFIX, sha256_of_file
from dcgan.training.checkpoint import load_checkpoint
from tests.service_stack import CHECKOUT
from tracking.tags import (
    CHAMPION,
    CHECKPOINTS,
    EXPERIMENT,
    GENERATOR_SHA256,
    IMAGES,
    MODEL_NAME,
    PREVIOUS,
    RECORDED_EPOCHS,
    REPORT,
)

EPOCHS = 3
PATIENCE_SECONDS = 900.0
ATTEMPTS = 3
SAME = "same"
TIMES = ("images_per_second", "seconds", "memory")  # in the names of metrics that differ from run to run


@dataclass(frozen=True)
class Kill:
    """When a training process is killed.

    Attributes:
        at: Name of a kill point, or seconds since the process started.
        server_too: Whether its Prefect server is killed in the same moment; only for a time.
    """

    at: str | float
    server_too: bool = False

    def after_attempts(self, attempts: int) -> "Kill":
        """Return the kill to try after so many attempts that came too late."""
        return self if isinstance(self.at, str) else replace(self, at=self.at / 2**attempts)

    def __str__(self) -> str:
        moment = self.at if isinstance(self.at, str) else f"after {self.at:.1f} s"
        return f"{moment}{', server too' if self.server_too else ''}"


@dataclass(frozen=True)
class Death:
    """What a kill destroyed: the last epoch whose state is saved, and the seconds of work since then."""

    saved_epoch: int
    lost_seconds: float


@dataclass(frozen=True)
class Trial:
    """A training run, or a promotion, that was killed and repeated.

    Attributes:
        moments: When it was killed.
        deaths: What each kill destroyed.
        resumed_from: What the last process resumed from.
        verdict: `same`, or what differs from the run that was never interrupted.
    """

    moments: list[str]
    deaths: list[Death]
    resumed_from: str
    verdict: str


@dataclass(frozen=True)
class Outcome:
    """The traces of a finished training run; two are equal when nothing shows which of them was killed.

    Attributes:
        weights_sha256: Digest of the weights of both networks in the last checkpoint.
        metrics: Values of each metric by epoch, except times.
        measurements: Epochs at which each time was recorded.
        samples: SHA-256 of the pixels of the sample grids, by epoch.
        animation: SHA-256 of the animation.
        checkpoints: Digest of the weights of each uploaded checkpoint.
        runs: Status of each MLflow run.
        recorded_epochs: The marker of the last recorded epoch.
        logged_models: Number of logged models.
        versions: Digest of the generator's weights of each model version.
        leftovers: Temporary files that are still there.
    """

    weights_sha256: str
    metrics: dict[str, list[tuple[int, float]]]
    measurements: dict[str, list[int]]
    samples: dict[int, list[str]]
    animation: str
    checkpoints: dict[str, str]
    runs: list[str]
    recorded_epochs: str
    logged_models: int
    versions: list[str]
    leftovers: list[str]

    def differences(self, other: "Outcome") -> list[str]:
        """Return what differs, by name."""
        mine, others = asdict(self), asdict(other)
        return [f"{name}: {mine[name]} instead of {others[name]}" for name in mine if mine[name] != others[name]]


@dataclass(frozen=True)
class Place:
    """A folder in which one training run may write.

    Attributes:
        root: The folder.
        variables: Environment variables for its commands.
    """

    root: Path
    variables: Mapping[str, str]

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.root / "state"

    @property
    def temporary(self) -> Path:
        """The folder for temporary files, which is empty when a run has ended."""
        return self.root / "tmp"

    @property
    def log(self) -> Path:
        """Everything that the commands have logged."""
        return self.root / "log.txt"

    def numbered(self, number: int) -> "Place":
        """Return a place within this one."""
        return replace(self, root=self.root / str(number))

    def start(self, *command: str) -> "subprocess.Popen[bytes]":
        """Start a Python module with its arguments, in a process group of its own."""
        self.temporary.mkdir(parents=True, exist_ok=True)
        foreign = ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME")
        inherited = {name: value for name, value in os.environ.items() if name not in foreign}
        own = {"DCGAN_STATE": str(self.state), "TMPDIR": str(self.temporary), **self.variables}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=CHECKOUT,
                env={**inherited, **own},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def run(self, *command: str) -> None:
        """Run a Python module to its end.

        Raises:
            ChaosError: It failed.
        """
        code = self.start(*command).wait(PATIENCE_SECONDS)
        if code:
            raise ChaosError(f"exit code {code}: {self.log.read_text().splitlines()[-1]}")

    def client(self) -> MlflowClient | None:
        """Return a client of the MLflow store, None where no process has finished creating it."""
        database = self.state / "mlflow.db"
        uri = f"sqlite:///{database}"
        return MlflowClient(uri, uri) if database.exists() else None

    def runs(self) -> dict[str, str]:
        """Return the status of each MLflow run by its id."""
        client = self.client()
        experiment = client.get_experiment_by_name(EXPERIMENT) if client else None
        found = client.search_runs([experiment.experiment_id]) if client and experiment else []
        return {run.info.run_id: run.info.status for run in found}

    def processes(self) -> list[psutil.Process]:
        """Return the processes that still work here."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("DCGAN_STATE") == str(self.state):
                    found.append(process)
            except psutil.Error:  # it has ended, or belongs to another user
                continue
        return found


class ChaosError(Exception):
    """A command that should have succeeded failed, or one that should have been killed ended by itself."""


class TooLateError(ChaosError):
    """A training run was finished before the time at which it should have been killed."""


def train_uninterrupted(place: Place) -> tuple[Outcome, float]:
    """Train without a kill; return the outcome and the seconds that it took."""
    began = time.monotonic()
    place.run("flows.train", *_arguments(place))
    return outcome(place), time.monotonic() - began


def try_training(place: Place, kills: Sequence[Kill], reference: Outcome) -> Trial:
    """Kill a training run at each of these moments in turn, run the same command to its end, and compare.

    Each kill hits the process that resumed after the kill before. A run that was finished before a time is repeated
    with half of it, in a new folder.
    """
    for attempt in range(ATTEMPTS):
        planned = [kill.after_attempts(attempt) for kill in kills]
        deaths: list[Death] = []
        resumed_from = ""
        try:
            resumed_from, verdict = _kill_and_resume(place.numbered(attempt), planned, deaths, reference)
        except ChaosError as error:
            verdict = str(error)
            if isinstance(error, TooLateError):
                continue
        break
    return Trial([str(kill) for kill in planned], deaths, resumed_from, verdict)


def try_promotion(place: Place) -> Trial:
    """Kill a promotion between its two aliases, repeat it, and check who was in service.

    Args:
        place: Where a training run is finished; its generator becomes a second version.
    """
    client = place.client()
    if client is None:
        raise AssertionError("the training run has left no MLflow store")
    (first,) = client.search_model_versions()
    source = client.get_model_version_download_uri(MODEL_NAME, first.version)
    second = client.create_model_version(MODEL_NAME, source, first.run_id, first.tags)
    former, candidate = first.version, second.version
    client.set_registered_model_alias(MODEL_NAME, CHAMPION, former)
    kill = Kill("between the aliases")
    try:
        promotion = ("promote", "--version", str(candidate), "--force")
        began = time.monotonic()
        _require_killed(place.start("tests.e2e.kill_at", str(kill), *promotion), place)
        death = Death(EPOCHS, round(time.monotonic() - began, 2))
        killed = dict(client.get_registered_model(MODEL_NAME).aliases)
        place.run("flows.cli", *promotion)
    except ChaosError as error:
        return Trial([str(kill)], [], "", str(error))
    repeated = dict(client.get_registered_model(MODEL_NAME).aliases)
    expected = ({CHAMPION: former, PREVIOUS: former}, {CHAMPION: candidate, PREVIOUS: former})
    unlike = f"{killed} when killed, then {repeated}; expected {expected[0]}, then {expected[1]}"
    return Trial([str(kill)], [death], "the promotion", SAME if (killed, repeated) == expected else unlike)


def outcome(place: Place) -> Outcome:
    """Return what a finished training run left in MLflow and on the disk."""
    client = place.client()
    run_id, *_ = place.runs()
    if client is None:
        raise AssertionError("a run without a store")
    run = client.get_run(run_id)
    histories = {
        name: sorted((metric.step, metric.value) for metric in client.get_metric_history(run_id, name))
        for name in run.data.metrics
        if not name.startswith("system/")
    }
    downloads = Path(client.download_artifacts(run_id, "", str(_empty(place.root / "downloads"))))
    checkpoints = {
        folder.name: load_checkpoint(folder).weights_sha256()
        for folder in sorted((downloads / CHECKPOINTS).iterdir())
        if any(folder.iterdir())  # an object store may list a folder for minutes after its last file was removed
    }
    return Outcome(
        weights_sha256=checkpoints[max(checkpoints)],
        metrics={name: values for name, values in histories.items() if not _is_time(name)},
        measurements={name: [step for step, _ in values] for name, values in histories.items() if _is_time(name)},
        samples=_samples(downloads / IMAGES),
        animation=sha256_of_file(downloads / REPORT / "training.gif"),
        checkpoints=checkpoints,
        runs=list(place.runs().values()),
        recorded_epochs=run.data.tags[RECORDED_EPOCHS],
        logged_models=len(client.search_logged_models([run.info.experiment_id])),
        versions=[version.tags[GENERATOR_SHA256] for version in client.search_model_versions()],
        leftovers=_leftovers(place),
    )


def _arguments(place: Place) -> tuple[str, ...]:
    recipe = ("--recipe", "smoke", "--epochs", str(EPOCHS), "--source", "bundled")
    return (*recipe, "--summary", str(place.root / "summary.json"))


def _kill_and_resume(place: Place, kills: Sequence[Kill], deaths: list[Death], reference: Outcome) -> tuple[str, str]:
    """Return what the last process resumed from, and the verdict."""
    run_ids: set[str] = set()
    for kill in kills:
        deaths.append(_kill(place, kill))
        run_ids |= place.runs().keys()
    resumed_from, weights = "nothing: it was finished", reference.weights_sha256
    if "FINISHED" not in place.runs().values():
        place.run("flows.train", *_arguments(place))
        summary = json.loads((place.root / "summary.json").read_text())
        epoch, weights = summary["resumed_from_epoch"], summary["weights_sha256"]
        resumed_from = f"epoch {epoch}" if epoch else "the beginning"
    _, alive = psutil.wait_procs(place.processes(), timeout=60)
    unlike = outcome(place).differences(reference) + [f"process {process.pid} lives" for process in alive]
    if weights != reference.weights_sha256:
        unlike.append(f"the summary has the weights {weights}")
    if len(run_ids | place.runs().keys()) != 1:
        unlike.append(f"the runs were {run_ids}, and are {set(place.runs())}")
    return resumed_from, "; ".join(unlike) or SAME


def _kill(place: Place, kill: Kill) -> Death:
    """Start or resume a training run, kill it, and return what that destroyed."""
    began = time.time()
    if isinstance(kill.at, str):
        _require_killed(place.start("tests.e2e.kill_at", kill.at, "train", *_arguments(place)), place)
    else:
        process = place.start("flows.train", *_arguments(place))
        try:
            process.wait(kill.at)
        except subprocess.TimeoutExpired:
            children = psutil.Process(process.pid).children(recursive=True) if kill.server_too else []
            os.killpg(process.pid, signal.SIGKILL)
            for child in children:
                child.kill()
        if process.wait(PATIENCE_SECONDS) == 0:
            raise TooLateError(f"finished before it was killed {kill}")
        _require_killed(process, place)
    states = sorted(place.state.glob("runs/*/states/epoch-*"))
    saved_epoch = int(states[-1].name.removeprefix("epoch-")) if states else 0
    lost_seconds = time.time() - max([began, *(path.stat().st_mtime for path in states)])
    return Death(saved_epoch, round(lost_seconds, 2))


def _require_killed(process: "subprocess.Popen[bytes]", place: Place) -> None:
    code = process.wait(PATIENCE_SECONDS)
    if code != -signal.SIGKILL:
        raise ChaosError(f"exit code {code} instead of a kill: {place.log.read_text().splitlines()[-1]}")


def _samples(folder: Path) -> dict[int, list[str]]:
    samples = defaultdict(list)
    for path in folder.glob("*.png"):  # MLflow's own naming: KEY+step+STEP+timestamp+…
        samples[int(path.name.split("+")[2])].append(hashlib.sha256(imread(path).tobytes()).hexdigest())
    return dict(sorted(samples.items()))


def _leftovers(place: Place) -> list[str]:
    temporary = [*place.state.rglob(f"{TEMPORARY_PREFIX}*"), *place.temporary.iterdir()]
    waiting = place.state.glob("runs/*/checkpoints/*")
    return sorted(str(path.relative_to(place.root)) for path in [*temporary, *waiting])


def _is_time(name: str) -> bool:
    return any(word in name for word in TIMES)


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder
