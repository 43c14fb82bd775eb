"""The lease on a run: which process, of all machines that share the MLflow store, may train and record it.

One tag names the holder, and whoever wrote it last is the holder: to claim a run is to write it. So a run can be taken
from a process that only seems to be dead, which finds out when it next looks. A second tag says that the holder lives;
it counts only for the holder that it names, so a late renewal of a former one takes nothing back.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event, Thread
from uuid import uuid4

from mlflow.entities import Run
from pydantic import BaseModel, ConfigDict, Field

from dcgan.errors import ConfigurationError, LeaseLostError, TrackingError
from tasks.tracking.runs import get_run, tag_run
from tasks.tracking.store import Store

logger = logging.getLogger("dcgan.lease")

LEASE = "dcgan.lease"
RENEWED = "dcgan.lease_renewed"
RENEWAL_SECONDS = 10.0
FRESH_SECONDS = 120.0  # clocks of machines may differ by a minute
STOP_SECONDS = 5.0


class Holder(BaseModel):
    """The process that holds a run: where it runs, for which flow run, and since when (Unix seconds)."""

    model_config = ConfigDict(frozen=True)

    host: str
    folder: str
    flow_run_id: str | None = None
    token: str = Field(default_factory=lambda: uuid4().hex)
    since: float = Field(default_factory=time.time)

    def tags(self) -> dict[str, str]:
        """Return the tag that makes it the holder of a run."""
        return {LEASE: self.model_dump_json()}

    def shares_folder(self, other: "Holder") -> bool:
        """Return whether both use one state folder of one machine, where a lock tells the living from the dead."""
        return (self.host, self.folder) == (other.host, other.folder)

    def shares_flow_run(self, other: "Holder") -> bool:
        """Return whether both belong to the same flow run of Prefect."""
        return self.flow_run_id is not None and self.flow_run_id == other.flow_run_id

    def __str__(self) -> str:
        return f"{self.host} at {datetime.fromtimestamp(self.since, UTC):%Y-%m-%d %H:%M:%S} UTC"


def live_holder(run: Run) -> Holder | None:
    """Return who holds a run; None when nobody does, or the holder has said nothing for two minutes."""
    holder = _written_last(run)
    return holder if holder and time.time() - _renewed(run, holder) < FRESH_SECONDS else None


def is_held_elsewhere(run: Run, here: Holder) -> bool:
    """Return whether a live process holds a run that does not use this machine's state folder."""
    holder = live_holder(run)
    return holder is not None and not holder.shares_folder(here)


def require_not_held_elsewhere(run: Run, here: Holder) -> None:
    """Refuse a run that a process elsewhere holds.

    Raises:
        ConfigurationError: it does.
    """
    holder = live_holder(run)
    if holder and is_held_elsewhere(run, here):
        raise ConfigurationError(
            f"The run {run.info.run_id} was taken by {holder}, in {holder.folder}, and is held since; "
            "expected one that no live process holds."
        )


class Lease:
    """This process's hold on a run.

    Args:
        store: where the run is.
        run_id: the run.
        holder: this process.
    """

    def __init__(self, store: Store, run_id: str, holder: Holder) -> None:
        self.run_id = run_id
        self._store = store
        self._holder = holder
        self._successor: Holder | None = None
        self._ended = Event()

    def take(self) -> None:
        """Become the holder, whoever it was until now.

        Raises:
            TrackingError: MLflow does not answer.
        """
        tag_run(self._store, self.run_id, self._holder.tags())

    def check(self) -> None:
        """Go on unless it is known that another process holds the run; this asks nobody.

        Raises:
            LeaseLostError: another does.
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
            LeaseLostError: another process does.
            TrackingError: MLflow does not answer.
        """
        run = get_run(self._store, self.run_id)
        holder = _written_last(run)
        if holder and holder.token != self._holder.token:
            self._successor = holder
        self.check()
        return run

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew it in a thread while the body runs, and give it back afterwards.

        While MLflow is away nothing is renewed, and nobody can take the run.
        """
        thread = Thread(target=self._renew_until_ended, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join(STOP_SECONDS)
            self._try_to_write(0)

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(RENEWAL_SECONDS) and not self._successor:
            self._try_to_write(time.time())

    def _try_to_write(self, seconds: float) -> None:
        try:
            self.require()
            tag_run(self._store, self.run_id, {RENEWED: f"{self._holder.token} {seconds:.0f}"})
        except LeaseLostError:
            pass  # the main thread is told by `check`
        except TrackingError as error:
            logger.debug("The lease is not renewed: %s", error)


def _written_last(run: Run) -> Holder | None:
    written = run.data.tags.get(LEASE)
    return Holder.model_validate_json(written) if written else None


def _renewed(run: Run, holder: Holder) -> float:
    """Return when a holder last said that it lives, in Unix seconds; 0 when it has given the run back."""
    token, _, seconds = run.data.tags.get(RENEWED, "").partition(" ")
    return float(seconds) if token == holder.token else holder.since
