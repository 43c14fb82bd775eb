"""The rendering task: the registered epoch's sample grid, and the animation of all epochs."""

from dcgan.files import atomic_file
from dcgan.images import png_bytes, upscaled, write_animation
from dcgan.training.checkpoint import Checkpoint
from dcgan.training.run_folder import RunFolder
from tasks.context import Context
from tasks.retries import recording_task
from tasks.training_run import TrainingRun
from tracking.runs import upload_folder
from tracking.tags import REPORT


@recording_task
def render(context: Context, run: TrainingRun, checkpoint: Checkpoint) -> int:
    """Write the selected epoch's grid as a PNG and all epochs' as a GIF, upload both, and return the GIF's frames."""
    folder = RunFolder(run.folder).report
    with atomic_file(folder / "samples.png") as file:
        file.write_bytes(png_bytes(upscaled(checkpoint.grids[checkpoint.selected.epoch - 1])))
    epochs = [record.epoch for record in checkpoint.metadata.records]
    frames = write_animation(folder / "training.gif", checkpoint.grids, epochs)
    run.lease.require()
    upload_folder(context.store, run.run_id, folder, REPORT)
    return frames
