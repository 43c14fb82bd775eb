"""The rendering task: the last grid and the animation of all epochs."""

from prefect import task

from tasks.run import Run
from tasks.settings import read_settings
from tasks.state import final_state

REPORT = "report"


@task
def render(run: Run) -> int:
    """Write the last grid as a PNG and every epoch's as a GIF, put both into MLflow, and return the GIF's frames."""
    from dcgan.files import atomic_file
    from dcgan.rendering import png_bytes, upscaled, write_animation
    from dcgan.run_folder import RunFolder
    from tasks.tracking.runs import upload_folder
    from tasks.tracking.store import Store

    checkpoint = final_state(run)
    folder = RunFolder(run.folder).report
    with atomic_file(folder / "samples.png") as picture:
        picture.write_bytes(png_bytes(upscaled(checkpoint.grids[-1])))
    epochs = [record.epoch for record in checkpoint.description.records]
    frames = write_animation(folder / "training.gif", checkpoint.grids, epochs)
    run.lease.require()
    upload_folder(Store(read_settings()), run.run_id, folder, REPORT)
    return frames
