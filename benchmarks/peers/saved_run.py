"""A training run of `smoke` that saves every epoch, and resumes from the newest one: `saved_run FOLDER DEVICE`.

It writes the number of each epoch on a line when its state is saved, so that a measuring process can kill it there.
"""

import sys
from pathlib import Path

from dcgan.data.idx import TRAIN, idx_sha256, read_images
from dcgan.data.parquet import normalise
from dcgan.provenance import Configuration
from dcgan.recipe import SMOKE, DeviceChoice
from dcgan.training.checkpoint import newest_checkpoint
from dcgan.training.loop import train
from dcgan.training.run_folder import RunFolder

CHECKOUT = Path(__file__).resolve().parents[2]


def main(folder: Path, device: DeviceChoice) -> None:
    """Train to the end, from the newest state in the folder where there is one."""
    digits = read_images(CHECKOUT / "data" / "mnist" / f"{TRAIN.images.name}.gz")[: SMOKE.max_images]
    configuration = Configuration(recipe=SMOKE, seed=0, dataset_digest=idx_sha256(digits))
    run = RunFolder(folder)
    start = newest_checkpoint(run.states(), configuration)
    for report in train(configuration, normalise(digits), start, device):
        run.save(report.checkpoint)
        print(report.record.epoch, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
