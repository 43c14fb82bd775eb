"""Which MLflow run a training goes on with, or that it begins one, and that it alone holds it from then on."""

import logging
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from dcgan.dataset import Manifest
from dcgan.errors import ConfigurationError
from dcgan.files import alone_in
from dcgan.provenance import Configuration
from dcgan.run_folder import RunFolder
from tasks.flow_run import flow_run_id, flow_run_tags
from tasks.settings import read_settings

if TYPE_CHECKING:
    from tasks.tracking.lease import Holder, Lease
    from tasks.tracking.store import Store

logger = logging.getLogger("dcgan.run")

PATIENCE_SECONDS = 300.0  # a predecessor on this machine stops when it next looks, after an evaluation at the latest


class Claim(NamedTuple):
    """The run that this process holds, and whether it was there before."""

    lease: "Lease"
    resumed: bool


@contextmanager
def claimed_run(store: "Store", configuration: Configuration, dataset: Manifest, resume: str) -> Iterator[Claim]:
    """Hold a run while the body runs: by its folder's lock on this machine, by its lease against all others.

    A flow run that Prefect started again goes on with its own MLflow run, whoever holds it and whatever `resume` says:
    Prefect has found that its predecessor is dead.

    Raises:
        TrackingError: the store does not answer, or the run to resume is not there, finished, or another training.
        ConfigurationError: the run to resume is held by another process.
    """
    from tasks.tracking.lease import Holder

    settings = read_settings()
    settings.runs.mkdir(parents=True, exist_ok=True)
    here = Holder(host=platform.node(), folder=str(settings.root), flow_run_id=flow_run_id())
    with ExitStack() as stack:
        claim = _taken_over(store, configuration, here, stack)
        if claim is None:
            with alone_in(settings.runs):  # else another process could claim the run that this one is just beginning
                claim = _resumed(store, configuration, resume, here, stack) or _begun(
                    store, configuration, dataset, here, stack
                )
            stack.enter_context(claim.lease.renewed())
        yield claim


def _taken_over(store: "Store", configuration: Configuration, here: "Holder", stack: ExitStack) -> Claim | None:
    """Take the run that this flow run began when it was started before, from its predecessor if that still lives."""
    from tasks.tracking import runs

    run_id = runs.find_run_of(store, here.flow_run_id) if here.flow_run_id else None
    if run_id is None:
        return None
    runs.require_same_training(store, run_id, configuration)
    claim = _taken(store, run_id, here)
    stack.enter_context(claim.lease.renewed())
    stack.enter_context(RunFolder(read_settings().runs / run_id).held(PATIENCE_SECONDS))
    claim.lease.require()
    return claim


def _resumed(
    store: "Store", configuration: Configuration, resume: str, here: "Holder", stack: ExitStack
) -> Claim | None:
    """Take the run to go on with; None when a new one is to begin."""
    from tasks.tracking import runs
    from tasks.tracking.lease import is_held_elsewhere

    if resume == "never":
        return None
    if resume != "auto":
        return _requested(store, configuration, resume, here, stack)
    for run_id in runs.find_unfinished(store, configuration):
        if is_held_elsewhere(runs.get_run(store, run_id), here):
            continue
        with suppress(ConfigurationError), ExitStack() as attempt:  # another process may be training it
            attempt.enter_context(RunFolder(read_settings().runs / run_id).held())
            if runs.is_unfinished(store, run_id):
                claim = _taken(store, run_id, here)
                stack.enter_context(attempt.pop_all())
                return claim
    return None


def _requested(store: "Store", configuration: Configuration, run_id: str, here: "Holder", stack: ExitStack) -> Claim:
    from tasks.tracking import runs
    from tasks.tracking.lease import require_not_held_elsewhere

    runs.require_resumable(store, run_id, configuration)
    require_not_held_elsewhere(runs.get_run(store, run_id), here)
    stack.enter_context(RunFolder(read_settings().runs / run_id).held())
    runs.require_resumable(store, run_id, configuration)  # whoever held it until now may have finished it
    return _taken(store, run_id, here)


def _taken(store: "Store", run_id: str, here: "Holder") -> Claim:
    from tasks.tracking.lease import Lease

    lease = Lease(store, run_id, here)
    lease.take()
    return Claim(lease, resumed=True)


def _begun(store: "Store", configuration: Configuration, dataset: Manifest, here: "Holder", stack: ExitStack) -> Claim:
    from tasks.tracking import runs
    from tasks.tracking.lease import Lease

    run_id = runs.begin_run(store, configuration, dataset, {**flow_run_tags(), **here.tags()})
    stack.enter_context(RunFolder(read_settings().runs / run_id).held())
    return Claim(Lease(store, run_id, here), resumed=False)
