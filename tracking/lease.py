"""The lease on a run: which process, of all machines that share the MLflow store, may train and record it.

One tag names the holder, and the last writer is the holder: a process claims a run by writing the tag. So a run can be
taken from a process that only seems to be dead, which finds out when it next looks. A second tag shows that the holder
is alive; it counts only for the holder that it names, so a late renewal by a previous one takes nothing back.
"""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event, Thread
from uuid import uuid4

from mlflow.entities import Run
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dcgan.errors import ConfigurationError, LeaseLostError, TrackingError
from tracking.runs import get_run, tag_run
from tracking.store import Store
from tracking.tags import LEASE, LEASE_RENEWED

logger = logging.getLogger("dcgan.lease")

RENEWAL_SECONDS = 10.0
CLOCK_DIFFERENCE_SECONDS = 60.0  # the most by which the clocks of machines may differ
FRESH_SECONDS = 60.0 + CLOCK_DIFFERENCE_SECONDS


class Holder(BaseModel):
    """The process that holds the lease of a run."""

    model_config = ConfigDict(frozen=True)

    host: str = Field(description="Name of its machine")
    folder: str = Field(description="Its state folder")
    flow_run_id: str | None = Field(default=None, description="Its Prefect flow run")
    token: str = Field(default_factory=lambda: uuid4().hex, description="Distinguishes it from all other holders")
    since: float = Field(default_factory=time.time, description="When it took the lease, in Unix seconds")

    def tags(self) -> dict[str, str]:
        """Return the tag that makes it the holder of a run."""
        return {LEASE: self.model_dump_json()}

    def shares_folder(self, other: "Holder") -> bool:
        """Return whether both use one state folder of one machine, where a lock shows which process is alive."""
        return (self.host, self.folder) == (other.host, other.folder)

    def shares_flow_run(self, other: "Holder") -> bool:
        """Return whether both belong to the same Prefect flow run."""
        return self.flow_run_id is not None and self.flow_run_id == other.flow_run_id

    def __str__(self) -> str:
        return f"{self.host} at {datetime.fromtimestamp(self.since, UTC):%Y-%m-%d %H:%M:%S} UTC"


def live_holder(run: Run) -> Holder | None:
    """Return the holder of a run; None when it has none, or the holder has not renewed its lease for two minutes."""
    holder = _last_written(run)
    return holder if holder and time.time() - _renewed_at(run, holder) < FRESH_SECONDS else None


def is_held_elsewhere(run: Run, here: Holder) -> bool:
    """Return whether a live process that does not use this machine's state folder holds a run."""
    holder = live_holder(run)
    return holder is not None and not holder.shares_folder(here)


def require_not_held_elsewhere(run: Run, here: Holder) -> None:
    """Refuse a run that a process elsewhere holds.

    Raises:
        ConfigurationError: A process elsewhere holds it.
    """
    holder = live_holder(run)
    if holder and is_held_elsewhere(run, here):
        raise ConfigurationError(
            f"The run {run.info.run_id} is in use by {holder}, in {holder.folder}; "
            "expected one that no live process uses."
        )


class Lease:
    """This process's lease on a run.

    Args:
        store: The store of the run.
        run_id: The run.
        holder: This process.
    """

    def __init__(self, store: Store, run_id: str, holder: Holder) -> None:
        self.run_id = run_id
        self._store = store
        self._holder = holder
        self._successor: Holder | None = None
        self._ended = Event()

    def take(self) -> None:
        """Become the holder, whoever it was before.

        Raises:
            TrackingError: MLflow does not answer.
        """
        tag_run(self._store, self.run_id, self._holder.tags())

    def check(self) -> None:
        """Continue unless it is known that another process holds the run; no request is made.

        Raises:
            LeaseLostError: Another process holds it.
        """
        if self._successor:
            raise LeaseLostError(
                f"The MLflow run {self.run_id} was taken over by {self._successor}; "
                "this process stops and records nothing more.",
                same_flow_run=self._successor.shares_flow_run(self._holder),
            )

    def require(self) -> Run:
        """Ask MLflow whether this process still holds the run, and return the run.

        Raises:
            LeaseLostError: Another process holds it.
            TrackingError: MLflow does not answer.
        """
        run = get_run(self._store, self.run_id)
        holder = _last_written(run)
        if holder and holder.token != self._holder.token:
            self._successor = holder
        self.check()
        return run

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew the lease in a thread while the body runs, and release it afterwards.

        While MLflow is away nothing is renewed, and nobody can take the run.
        """
        thread = Thread(target=self._renew_until_ended, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()  # a renewal that is under way must not come after the release
            self._try_to_write(0)

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(RENEWAL_SECONDS) and not self._successor:
            self._try_to_write(time.time())

    def _try_to_write(self, renewed_at: float) -> None:
        try:
            self.require()
            tag_run(self._store, self.run_id, {LEASE_RENEWED: f"{self._holder.token} {renewed_at:.0f}"})
        except LeaseLostError:
            pass  # `check` raises it in the main thread
        except TrackingError as error:
            logger.debug("The lease is not renewed: %s", error)


def _last_written(run: Run) -> Holder | None:
    """Return the holder that the tag names; None where there is no tag, or something else was written into it."""
    written = run.data.tags.get(LEASE)
    if not written:
        return None
    try:
        return Holder.model_validate_json(written)
    except ValidationError:
        logger.warning("The tag %s of the run %s names no holder and is ignored.", LEASE, run.info.run_id)
        return None


def _renewed_at(run: Run, holder: Holder) -> float:
    """Return when a holder last renewed its lease, in Unix seconds; 0 when it has released it.

    A time that is more than a minute in the future is not that of a renewal, and neither is what is not a number.
    """
    token, _, written = run.data.tags.get(LEASE_RENEWED, "").partition(" ")
    if token != holder.token:
        return holder.since if _is_plausible(holder.since) else 0
    try:
        seconds = float(written)
    except ValueError:
        seconds = math.inf
    if _is_plausible(seconds):
        return seconds
    logger.warning("The tag %s of the run %s has no plausible time and is ignored.", LEASE_RENEWED, run.info.run_id)
    return 0


def _is_plausible(seconds: float) -> bool:
    return 0 <= seconds < time.time() + CLOCK_DIFFERENCE_SECONDS
