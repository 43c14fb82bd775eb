"""Makes the files of data/classifiers: `python -m dcgan.evaluation.make_classifiers`.

They are the weights of both classifiers, the reference baselines of each, and how near the test images are to the
training images. On two cores, each classifier takes about a minute to train and its baselines another to measure. The
weights are the same, bit for bit, on one machine with the same packages.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dcgan.data.idx import IdxPair, load_pair, read_idx_folder
from dcgan.data.parquet import normalise
from dcgan.evaluation.baselines import baselines_for
from dcgan.evaluation.classifiers import BUNDLED, CONFIGS, Classifier, save_weights, train_weights
from dcgan.evaluation.evaluate import prepare_reference
from dcgan.evaluation.memorization import prepare_memorization_reference

logger = logging.getLogger("dcgan.evaluation.make_classifiers")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train both classifiers on the dataset in a folder, and write their weights and baselines to another."""
    parsed = _parse(arguments)
    dataset = read_idx_folder(parsed.data, str(parsed.data))
    train, test = (_load(dataset.folder, pair) for pair in (dataset.train, dataset.test))
    for pattern in ("baselines-*.json", "memorization-*.json"):
        for measured in parsed.out.glob(pattern):  # else it would be taken for what this code measures
            measured.unlink()
    memorization = prepare_memorization_reference(*train, test[0], dataset.digest, [parsed.out])
    for config in CONFIGS.values():
        stored = train_weights(config, dataset.digest, train, test)
        path = parsed.out / f"{config.role}.npz"
        save_weights(path, stored)
        baselines_for(prepare_reference(Classifier(stored), *test), memorization, test[0], parsed.out)
        logger.info("%s: %s", path, stored.metadata.model_dump_json())


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m dcgan.evaluation.make_classifiers", description=main.__doc__)
    parser.add_argument("--data", type=Path, default=BUNDLED.parent / "mnist", help="Folder of the four IDX files")
    parser.add_argument("--out", type=Path, default=BUNDLED, help="Folder to write to")
    return parser.parse_args(arguments)


def _load(folder: Path, pair: IdxPair) -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_pair(folder, pair)
    return normalise(images), labels


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
