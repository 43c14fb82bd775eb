"""The model card: what it says, and how the metrics of an evaluation take the place of those of training."""

import numpy as np
import pytest

from dcgan.data.dataset import COLUMNS, Manifest, SplitManifest
from dcgan.data.idx import MNIST_DIGEST
from dcgan.evaluation.gate import Evaluation, VersionMetrics, decide
from dcgan.provenance import Configuration
from dcgan.recipe import FAST
from dcgan.report.model_card import Links, model_card, with_evaluation
from dcgan.training.checkpoint import Checkpoint, EpochRecord
from tests.dcgan.report.conftest import baselines

METRICS = {"generator_loss": 0.75, "frechet_distance": 12.5}
LINKS = Links("models:/m-1", "grid-address", "playground-address", "run-7", None)
DESCRIPTION_CHARACTERS = 5000  # of MLflow's databases


def card_of(source: str, digest: str = MNIST_DIGEST) -> str:
    """Return the card of the second of three epochs, which has the lowest Fréchet distance."""
    split = SplitManifest(file="train.parquet", rows=60_000, sha256="a" * 64, label_histogram=(6000,) * 10)
    manifest = Manifest(source=source, digest=digest, columns=COLUMNS, train=split, test=split)
    configuration = Configuration(recipe=FAST.changed({"precision": "float32"}), seed=11, dataset_digest=digest)
    history = [
        (EpochRecord(epoch=epoch, step=937 * epoch, finished_at=0, metrics=metrics), np.zeros((2, 2), np.uint8))
        for epoch, metrics in enumerate([METRICS | {"frechet_distance": 90}, METRICS, METRICS], start=1)
    ]
    arrays = {"generator/kernel": np.zeros(3, np.float32)}
    return model_card(manifest, Checkpoint.make(configuration, arrays, history, {"kernel": np.zeros(3)}), LINKS)


@pytest.fixture
def evaluation() -> Evaluation:
    """Return an evaluation of noisy digits as version 2 beside a champion of blurred ones."""
    selection, held_out = baselines("selection"), baselines("held_out")
    return Evaluation(
        dataset_digest=MNIST_DIGEST,
        same_dataset=True,
        candidate=VersionMetrics(version=2, selection=selection.noisy, held_out=held_out.noisy),
        champion=VersionMetrics(version=1, selection=selection.blurred, held_out=held_out.blurred),
        selection_baselines=selection,
        held_out_baselines=held_out,
        verdict=decide(selection.noisy, selection.blurred, selection),
    )


def test_it_says_where_the_generator_came_from():
    """Recipe, seed, epochs, data and its licence, metrics of the epoch that is registered, and how to load it."""
    card = card_of("the bundled copy")
    text = " ".join(card.split())
    assert "recipe `fast`, seed 11, 3 epochs, on 60,000 images; epoch 2 is registered." in text
    assert "![sample grid of epoch 2](grid-address)" in card
    assert f"`the bundled copy`, digest `{MNIST_DIGEST}`. This is MNIST, by Y. LeCun" in card
    assert "CC BY-SA 3.0" in card
    assert "| generator loss | 0.75 |\n| Fréchet distance | 12.5 |" in card
    assert 'mlflow.pyfunc.load_model("models:/m-1")' in card
    for section in ("Intended use", "Limits", "Data and licence", "Training", "Metrics", "Loading it"):
        assert card.count(f"\n## {section}\n") == 1


def test_other_data_has_no_licence_of_mnists():
    """Nothing is said of the licence of data that is not MNIST."""
    card = card_of("/data/fashion", "b" * 64)
    assert "licence is not known" in card
    assert "CC BY-SA" not in card


def test_a_source_cannot_add_markup(hostile):
    """The name of a source stays within its code span, on one line."""
    card = card_of(f"{hostile}\n## Metrics\n`[link](https://example.org)`")
    (line,) = (line for line in card.splitlines() if "alert" in line)
    assert line.startswith('`"><script>')
    assert "## Metrics [link](https://example.org)`, digest" in " ".join(line.split())
    assert line.split("digest")[0].count("`") == 2


def test_a_long_source_is_shortened(evaluation):
    """The card fits into MLflow's databases whatever the path of the data, with an evaluation too."""
    card = with_evaluation(card_of("/data/" + "digits/" * 600), evaluation, "report-address")
    assert len(card) < DESCRIPTION_CHARACTERS - 1000  # real addresses are longer than those here
    assert "`/data/digits/" in card
    assert "…`, digest" in card


def test_an_evaluation_replaces_the_metrics(evaluation):
    """Its metrics stand beside the champion's and the baselines', once; everything else stays."""
    card = card_of("bundled")
    evaluated = with_evaluation(card, evaluation, "report-address")
    assert "| metric | version 2 | champion 1 | training images | noisy | blurred | untrained |" in evaluated
    noisy, blurred = evaluation.selection_baselines.noisy, evaluation.selection_baselines.blurred
    assert f"| Fréchet distance | {noisy.frechet_distance} | {blurred.frechet_distance} |" in evaluated
    assert (
        f"| Fréchet distance, held-out classifier | {evaluation.held_out_baselines.noisy.frechet_distance} |"
        in evaluated
    )
    assert evaluation.verdict.reason in evaluated
    assert "generator loss" not in evaluated
    assert "[All metrics](report-address)" in evaluated
    (before, after), (_, evaluated_after) = (text.split("## Metrics") for text in (card, evaluated))
    assert evaluated.startswith(before)
    assert evaluated_after.split("## Loading it")[1] == after.split("## Loading it")[1]
    assert with_evaluation(evaluated, evaluation, "report-address") == evaluated
    assert len(evaluated) < DESCRIPTION_CHARACTERS


def test_a_text_of_somebody_else_stays(evaluation):
    """A description without a section of metrics is not changed."""
    assert with_evaluation("Our best one.\n\n## Notes\n", evaluation, "report-address") == "Our best one.\n\n## Notes\n"
