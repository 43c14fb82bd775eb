"""Make the files of data/evaluator again: `python -m dcgan.quality.make_evaluator`.

They are the weights of both classifiers and, for each, the bounds of every figure. It takes about a minute of training
and a minute of measuring for each on two cores. The weights come out the same, bit for bit, on one machine with the
same packages.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dcgan.idx_set import IdxPair, load_pair, read_idx_folder
from dcgan.parquet import NORMALISED
from dcgan.quality.bounds import bounds_for
from dcgan.quality.classifiers import PLANS
from dcgan.quality.evaluation import prepare_reference
from dcgan.quality.evaluator import BUNDLED, Evaluator, train_weights
from dcgan.quality.memorisation import prepare_held_out
from dcgan.quality.stored_weights import save_weights

logger = logging.getLogger("dcgan.quality.make_evaluator")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train both classifiers on the data set in a folder, and write their weights and bounds to another."""
    parsed = _parse(arguments)
    data = read_idx_folder(parsed.data, str(parsed.data))
    train, test = (_load(data.folder, pair) for pair in (data.train, data.test))
    held_out = prepare_held_out(*train, test[0])
    for plan in PLANS.values():
        stored = train_weights(plan, data.digest, train, test)
        save_weights(parsed.out / f"{plan.role}.npz", stored)
        bounds_for(prepare_reference(Evaluator(stored), test[0]), held_out, test[0], parsed.out)
        logger.info("%s: %s", parsed.out / f"{plan.role}.npz", stored.card.model_dump_json())


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m dcgan.quality.make_evaluator", description=main.__doc__)
    parser.add_argument("--data", type=Path, default=BUNDLED.parent / "mnist", help="folder of the four IDX files")
    parser.add_argument("--out", type=Path, default=BUNDLED, help="folder to write to")
    return parser.parse_args(arguments)


def _load(folder: Path, pair: IdxPair) -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_pair(folder, pair)
    return NORMALISED[images][..., None], labels


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
