"""The rendering task: the report's picture and animation."""

from pathlib import Path

import numpy as np
from PIL import Image

from dcgan.checkpoint_files import load_checkpoint
from dcgan.rendering import read_png, upscaled
from tasks.settings import read_settings
from tasks.tracking.store import Store


def test_the_report_is_in_mlflow(trained):
    """The last grid and the GIF lie under report/, and are those of the state."""
    client = Store(read_settings()).client
    listed = {file.path for file in client.list_artifacts(trained.run.run_id, "report")}
    assert listed == {"report/samples.png", "report/training.gif"}
    grids = load_checkpoint(trained.run.folder / "states" / "epoch-000002").grids
    picture = Path(client.download_artifacts(trained.run.run_id, "report/samples.png"))
    assert np.array_equal(read_png(picture.read_bytes()), upscaled(grids[-1]))
    with Image.open(client.download_artifacts(trained.run.run_id, "report/training.gif")) as animation:
        assert animation.n_frames == trained.frames == 2
        assert "loop" in animation.info
