"""The rendering task: the report's sample grid and animation."""

from pathlib import Path

import numpy as np
from imageio.v3 import imread
from PIL import Image

from dcgan.images import upscaled
from dcgan.training.checkpoint import load_checkpoint


def test_the_report_is_in_mlflow(trained):
    """The last grid and the GIF are under report/, and show the epochs of the state."""
    client = trained.context.store.client
    listed = {file.path for file in client.list_artifacts(trained.run.run_id, "report")}
    added_by_registration = {"report/model-card.md", "report/playground.html"}
    assert listed == {"report/samples.png", "report/training.gif"} | added_by_registration
    grids = load_checkpoint(trained.run.folder / "states" / "epoch-000002").grids
    grid = Path(client.download_artifacts(trained.run.run_id, "report/samples.png"))
    assert np.array_equal(imread(grid), upscaled(grids[-1]))
    with Image.open(client.download_artifacts(trained.run.run_id, "report/training.gif")) as animation:
        assert animation.n_frames == trained.frames == 2
        assert "loop" in animation.info
