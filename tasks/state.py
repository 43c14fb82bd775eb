"""Where a run's state is found: in its folder on this machine, else among its artifacts in MLflow."""

import logging
from typing import TYPE_CHECKING

from dcgan.checkpoint import Checkpoint
from dcgan.checkpoint_files import newest_checkpoint
from dcgan.errors import CheckpointError
from dcgan.run_folder import RunFolder
from tasks.run import Run

if TYPE_CHECKING:
    from tasks.tracking.store import Store

logger = logging.getLogger("dcgan.state")


def newest_state(run: Run, store: "Store") -> Checkpoint | None:
    """Return the newest usable state of a run, None when it has not finished an epoch yet.

    Raises:
        CheckpointError: a state belongs to another configuration.
    """
    from tasks.tracking.runs import downloaded_checkpoints

    checkpoint = newest_checkpoint(RunFolder(run.folder).states(), run.configuration)
    if checkpoint is None:
        with downloaded_checkpoints(store, run.run_id) as folders:
            checkpoint = newest_checkpoint(folders, run.configuration)
        if checkpoint:
            logger.info("The state after epoch %d came from MLflow's artifacts.", checkpoint.epoch)
            RunFolder(run.folder).save(checkpoint)
    return checkpoint


def final_state(run: Run) -> Checkpoint:
    """Return the state after a run's last epoch.

    Raises:
        CheckpointError: the run's folder does not hold it.
    """
    checkpoint = newest_checkpoint(RunFolder(run.folder).states(), run.configuration)
    epochs = run.configuration.recipe.epochs
    if checkpoint is None or checkpoint.epoch != epochs:
        raise CheckpointError(f"The folder {run.folder} does not hold the state after epoch {epochs}; train it first.")
    return checkpoint
