"""The model card of a registered generator, in Markdown: what it is for, its limits, its origin, its metrics, its use.

Its sections follow Mitchell et al., "Model Cards for Model Reporting", https://arxiv.org/abs/1810.03993, section 4, as
far as they say something of a generator of images. MLflow shows it as the version's description, which may have at most
5,000 characters in its databases; the same text is a file of the report.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dcgan.data.dataset import Manifest
from dcgan.data.idx import MNIST_DIGEST
from dcgan.evaluation.gate import Evaluation
from dcgan.report.render import counted, display_name
from dcgan.training.checkpoint import Checkpoint

METRICS_HEADING = "## Metrics"
SOURCE_CHARACTERS = 300
SHOWN = (
    "frechet_distance",
    "kernel_distance",
    "coverage",
    "missing_classes",
    "confidence",
    "memorized_fraction",
)


@dataclass(frozen=True)
class Links:
    """Addresses of what the card shows or leads to.

    Attributes:
        model: Address by which MLflow loads the generator.
        sample_grid: The sample grid.
        playground: The page that runs the generator; None where there is none.
        run: Id of the MLflow run.
        flow_run: Page of the Prefect flow run; None where there is none.
    """

    model: str
    sample_grid: str
    playground: str | None
    run: str
    flow_run: str | None


def model_card(dataset: Manifest, checkpoint: Checkpoint, links: Links) -> str:
    """Return the card of the generator of a run's final checkpoint, with the selected epoch's metrics."""
    configuration = checkpoint.metadata.configuration
    recipe, selected = configuration.recipe, checkpoint.selected
    images = min(dataset.train.rows, recipe.max_images or dataset.train.rows)
    average = (
        f", weights averaged with a half-life of {recipe.ema_ramp_up:.0%} of the images seen, at most "
        f"{recipe.ema_half_life_images:,} images"
        if recipe.ema_half_life_images
        else ""
    )
    epochs = counted(checkpoint.epoch, "epoch")
    pages = {
        "Playground: download this page and open it in a browser": links.playground,
        "Prefect flow run": links.flow_run,
    }
    listed = " · ".join([*(f"[{text}]({url})" for text, url in pages.items() if url), f"MLflow run `{links.run}`"])
    kind = "of handwritten digits" if dataset.digest == MNIST_DIGEST else "like those of its dataset"
    # no line breaks within a paragraph: MLflow shows each of them
    return f"""A DCGAN that generates images {kind}: 100 normally distributed numbers in, a grey image of \
28 × 28 pixels out. Trained by recipe `{recipe.name}`, seed {configuration.seed}, {epochs}, \
on {images:,} images; epoch {selected.epoch} is registered.

![sample grid of epoch {selected.epoch}]({links.sample_grid})

{listed}

## Intended use

Teaching, demonstrations, and tests of pipelines and servers. What an image shows cannot be chosen: the model is \
unconditional.

## Limits

* Some images belong to no class, and the classes are not equally frequent. The metrics say how often.
* It knows nothing but its training images: what they do not show, it does not generate.
* It does not replace real data: no classifier should be trained or tested on its images.
* Latents far from a normal distribution give images unlike the training images; latents that are not finite give none.

## Data and licence

{_code(_shortened(dataset.source))}, digest `{dataset.digest}`. {_licence(dataset)} The code is under the Apache \
License 2.0.

## Training

Batches of {recipe.batch_size}, Adam with learning rates {recipe.generator_learning_rate:g} (generator) and \
{recipe.discriminator_learning_rate:g} (discriminator), in {recipe.precision}{average}. SHA-256 of both networks as \
trained to the end: `{checkpoint.weights_sha256()}`.

{METRICS_HEADING}

{_training_metrics(selected.epoch, selected.metrics)}

## Loading it

Where `MLFLOW_TRACKING_URI` is the address of this MLflow, as in a shell after `eval "$(make env)"`:

```python
import mlflow
import numpy as np

generator = mlflow.pyfunc.load_model("{links.model}")
latents = np.random.default_rng(0).standard_normal((16, 100), dtype=np.float32)
images = generator.predict(latents)  # float32 (16, 28, 28, 1) in [-1, 1]
```
"""


def with_evaluation(card: str, evaluation: Evaluation, report: str) -> str:
    """Return a card with the metrics of an evaluation, beside the baselines, in place of those it has.

    A text without a section of metrics, which somebody wrote, stays as it is.

    Args:
        card: The card.
        evaluation: The evaluation.
        report: Address of the evaluation's report.
    """
    table = f"{METRICS_HEADING}\n\n{_evaluation_metrics(evaluation, report)}\n\n"
    return re.sub(
        rf"^{METRICS_HEADING}\n.*?(?=^## |\Z)", lambda _: table, card, count=1, flags=re.DOTALL | re.MULTILINE
    )


def _training_metrics(epoch: int, metrics: Mapping[str, float]) -> str:
    rows = "\n".join(f"| {display_name(name)} | {value:,.4g} |" for name, value in metrics.items())
    return f"Of epoch {epoch}, during training:\n\n| metric | value |\n|---|---|\n{rows}"


def _evaluation_metrics(evaluation: Evaluation, report: str) -> str:
    columns = evaluation.columns("selection")
    held_out = {title: each.frechet_distance for title, each in evaluation.columns("held_out").items()}
    rows = {display_name(name): {title: each.estimates()[name] for title, each in columns.items()} for name in SHOWN}
    rows["Fréchet distance, held-out classifier"] = held_out
    lines = [_row("metric", columns), "|---" * (len(columns) + 1) + "|"]
    lines += [_row(name, values.values()) for name, values in rows.items()]
    images = evaluation.candidate.selection.images
    return (
        f"Of {images:,} images, with standard errors, beside reference baselines. [All metrics]({report})\n\n"
        + "\n".join(lines)
        + f"\n\n{evaluation.verdict.reason if evaluation.verdict else evaluation.sentence}"
    )


def _row(name: str, values: Iterable[object]) -> str:
    return f"| {' | '.join([name, *map(str, values)])} |"


def _licence(dataset: Manifest) -> str:
    if dataset.digest == MNIST_DIGEST:
        return "This is MNIST, by Y. LeCun, C. Cortes and C. Burges, under CC BY-SA 3.0."
    return "This is not MNIST as published, and its licence is not known here: ask where it came from."


def _shortened(source: str) -> str:
    """Return a source, or its beginning: MLflow's databases store no more than 5,000 characters of a card."""
    return source if len(source) <= SOURCE_CHARACTERS else f"{source[: SOURCE_CHARACTERS - 1]}…"


def _code(text: str) -> str:
    """Return text as Markdown's code, in which nothing is markup."""
    return f"`{' '.join(text.replace('`', ' ').split())}`"
