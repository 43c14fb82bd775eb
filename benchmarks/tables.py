"""The results of the benchmarks: a JSON file of each, and the tables of the documents, which are made of these files.

`python -m benchmarks tables` writes every table anew, each between two comments: <!-- table: NAME --> and <!-- end -->.
"""

import json
import os
import platform
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from rich.console import Console
from rich.table import Table as ConsoleTable

from dcgan.recipe import CLASSIC, FAST, RECIPES

CHECKOUT = Path(__file__).resolve().parent.parent
RESULTS = CHECKOUT / "benchmarks" / "results"
DOCUMENTS = (CHECKOUT / "README.md", CHECKOUT / "docs" / "benchmarks.md", CHECKOUT / "docs" / "scaling.md")
MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
ROLES = ("selection", "held_out")

Results = dict[str, Any]


class Table(NamedTuple):
    """A table of a document.

    Attributes:
        sources: Names of the benchmarks whose results it shows.
        rows: The cells of each row; the first row is the header.
        note: A sentence that goes with it.
    """

    sources: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str = ""


def publish(benchmark: str, results: Results) -> None:
    """Write a benchmark's results with the machine and the time, rewrite the documents' tables, and print its own."""
    path = RESULTS / f"{benchmark}.json"
    header = {"benchmark": benchmark, "at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine()}
    path.write_text(json.dumps(header | results, indent=2) + "\n", encoding="utf-8")
    main()
    console = Console(highlight=False)
    for header_row, *rows in (table.rows for table in tables().values() if benchmark in table.sources):
        shown = ConsoleTable(*header_row)
        for row in rows:
            shown.add_row(*row)
        console.print(shown)
    console.print(f"Written to {path}")


def main() -> None:
    """Write the tables of every document anew."""
    for document in DOCUMENTS:
        document.write_text(with_tables(document), encoding="utf-8")


def with_tables(document: Path) -> str:
    """Return a document's text with every table that it marks made anew.

    Raises:
        ValueError: A marker names no table.
    """
    made = tables()

    def replaced(match: re.Match[str]) -> str:
        begin, name, end = match.groups()
        if name not in made:
            raise ValueError(f"{document}: there is no table {name}; expected one of {', '.join(made)}.")
        return f"{begin}\n{_markdown(made[name], document)}\n{end}"

    return MARKED.sub(replaced, document.read_text(encoding="utf-8"))


def tables() -> dict[str, Table]:
    """Return every table by its name, made of the files under benchmarks/results/."""
    names = ("step", "pipeline", "scale", "rendering", "quality", "fashion", "chaos", "gpu", "load", "records")
    step, pipeline, scale, rendering, quality, fashion, chaos, gpu, load, records = map(read_results, names)
    return {
        "results": Table(
            ("quality", "step", "gpu", "chaos"),
            list(_overview(quality, step, gpu, chaos)),
            "The GPU is that of another machine, measured before its steps were compiled as one loop.",
        ),
        "times": Table(("pipeline",), list(_times(pipeline)), _times_note(pipeline, step)),
        "step": Table(("step",), list(_step(step))),
        "pipeline": Table(("pipeline",), list(_pipeline(pipeline))),
        "scale": Table(("scale",), list(_scale(scale))),
        "rendering": Table(("rendering",), list(_rendering(rendering))),
        "load": Table(("load",), list(_load(load))),
        "capacity": Table(("load",), list(_capacity(load))),
        "records": Table(("records",), list(_records(records)), _records_note(records)),
        "artifacts": Table(("records",), list(_artifacts(records))),
        "demand": Table(("records", "quality", "load"), list(_demand(records, quality, load))),
        "gpu": Table(("gpu",), list(_step(gpu)), f"On one {gpu['gpus'][0]}."),
        "gpu-epochs": Table(("gpu",), list(_gpu_epochs(gpu))),
        "quality": Table(("quality",), list(_quality(quality))),
        "fashion": Table(("fashion",), list(_quality(fashion))),
        "passing": Table(("quality",), list(_passing(quality)), _passing_note(quality)),
    }


def read_results(benchmark: str) -> Results:
    """Return what a benchmark has written."""
    return json.loads((RESULTS / f"{benchmark}.json").read_text(encoding="utf-8"))


def machine() -> dict[str, str | int | float]:
    """Return what results depend on: processor, cores, memory, operating system and Python."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text(encoding="utf-8").splitlines()
        found = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        if found:
            return found[0]
    return platform.processor() or platform.machine()


def _markdown(table: Table, document: Path) -> str:
    """Return the table as Markdown, after a line that says where it comes from."""
    files = {name: os.path.relpath(RESULTS / f"{name}.json", document.parent) for name in table.sources}
    where = read_results(table.sources[0])["machine"]
    links = ", ".join(f"[{name}.json]({path})" for name, path in files.items())
    caption = f"Measured on {where['cores']} cores of an {where['processor'].split(' @')[0]} ({links})."
    header, *rows = (f"| {' | '.join(row)} |" for row in table.rows)
    return "\n".join([f"{caption} {table.note}".strip(), "", header, "|---" * len(table.rows[0]) + "|", *rows, ""])


def _overview(quality: Results, step: Results, gpu: Results, chaos: Results) -> Iterator[tuple[str, ...]]:
    runs = quality["training_runs"].values()
    fast = [_distance(run, "selection")["value"] for run in runs if run["recipe"] == "fast"]
    classic = next(run for run in runs if run["recipe"] == "classic")
    yield "question", "answer"
    yield (
        "How good are the images?",
        f"Fréchet distance {min(fast):.1f} to {max(fast):.1f} with `fast` after {FAST.epochs} epochs, "
        f"{_distance(classic, 'selection')['value']:.0f} with `classic` after {CLASSIC.epochs} (lower is better)",
    )
    yield (
        "How fast is a training step on two cores?",
        _speedups(step, keras="Keras, as installed", bfloat16=True),
    )
    yield f"How fast is it on an {gpu['gpus'][0]}?", _speedups(gpu, keras="Keras", bfloat16=False)
    yield (
        "Does it survive a kill?",
        f"{chaos['same']} of {len(chaos['trials'])} ended as if never killed: {len(chaos['trials']) - 1} training runs "
        "of `smoke` with the same bits, and a promotion with the same champion",
    )


def _speedups(results: Results, keras: str, *, bfloat16: bool) -> str:
    """Return how many times as fast as plain Keras and PyTorch each recipe is, if it was measured as it is now.

    Args:
        results: What was measured.
        keras: Name of plain Keras in it.
        bfloat16: Whether the precision `auto` is bfloat16 there.
    """
    parts = []
    for recipe, measured in results["recipes"].items():
        if measured["batch_size"] != RECIPES[recipe].batch_size:
            continue
        ratios = {name: variant["speedup_of_this_project"] for name, variant in measured["variants"].items()}
        if RECIPES[recipe].precision == "auto" and bfloat16:
            ours = {name: ratio["bfloat16"] for name, ratio in ratios.items()}
            parts.append(
                f"`{recipe}` in bfloat16: {ours['Keras, bfloat16']:.2f}× Keras and "
                f"{ours['PyTorch, bfloat16']:.2f}× PyTorch "
                f"in bfloat16, {ours[keras]:.2f}× and {ours['PyTorch']:.2f}× in float32"
            )
        else:
            ours = {name: ratio["float32"] for name, ratio in ratios.items()}
            parts.append(f"`{recipe}`: {ours[keras]:.2f}× Keras, {ours['PyTorch']:.2f}× PyTorch")
    return "; ".join(parts)


def _times(pipeline: Results) -> Iterator[tuple[str, ...]]:
    fast, classic = (pipeline["recipes"][name] for name in ("fast", "classic"))
    yield "what", "time"
    yield "`smoke`, the whole command", f"{pipeline['smoke_seconds']:.0f} s"
    yield "from a command to its first step", f"{pipeline['smoke_seconds_to_first_step']:.0f} s"
    yield f"an epoch of `fast` (it has {FAST.epochs})", f"{fast['epoch_seconds']:.0f} s"
    yield f"an epoch of `classic` (it has {CLASSIC.epochs})", f"{classic['epoch_seconds']:.0f} s"


def _times_note(pipeline: Results, step: Results) -> str:
    """Return how fast the machine was on that day, beside the day of the other table of the README."""
    then = step["recipes"]["classic"]["variants"]["this project"]["images_per_second"]
    now = pipeline["recipes"]["classic"]["images_per_second"]
    return (
        f"Within the pipeline, on that day, `classic` trained at {now:,.0f} images/s; the step alone, measured for the "
        f"table above on another day, at {then:,.0f}."
    )


def _step(step: Results) -> Iterator[tuple[str, ...]]:
    recipes = step["recipes"]
    precisions = next(iter(recipes.values()))["variants"]["this project"]["speedup_of_this_project"]
    speedups = (f"this project is, in {precision}" for precision in precisions)
    yield "what", "recipe, batch", "images/s", "of the peak", *speedups
    for recipe, measured in recipes.items():
        for name, variant in measured["variants"].items():
            fraction = variant["nominal_fraction_of_matrix_product"]
            yield (
                name,
                f"`{recipe}`, {measured['batch_size']}",
                f"{variant['images_per_second']:.0f}",
                "" if fraction is None else f"{fraction:.0%}",
                *(f"{speedup:.2f}×" for speedup in variant["speedup_of_this_project"].values()),
            )


def _pipeline(pipeline: Results) -> Iterator[tuple[str, ...]]:
    start = pipeline["starting_stages"]
    yield "what", "measured"
    yield "importing Python's packages, starting Prefect", f"{start['imports_and_prefect']:.1f} s"
    yield "fetching and preparing the data", f"{start['data']:.1f} s"
    yield (
        "opening MLflow's store, importing TensorFlow, building the networks",
        f"{start['mlflow_tensorflow_and_networks']:.1f} s",
    )
    yield "what the first epoch takes beside its steps: compiling, the grid, the state", f"{start['compiling']:.1f} s"
    yield "reading Parquet into the training images", f"{pipeline['read_parquet_seconds']:.1f} s"
    for name, epoch in pipeline["recipes"].items():
        yield f"recording an epoch of `{name}`", f"{epoch['recording_fraction_of_steps']:.1%} of its steps"
        yield f"evaluating an epoch of `{name}`", f"{epoch['evaluation_fraction_of_steps']:.1%} of its steps"
        yield f"peak memory of `{name}`", f"{epoch['peak_memory_mb']:,.0f} MB"


def _scale(scale: Results) -> Iterator[tuple[str, ...]]:
    yield "what", "measured"
    for size, row in scale["sizes"].items():
        microseconds = 1e6 / row["images_per_second"]
        yield f"`classic` on {int(size):,} images", f"{microseconds:.0f} µs an image, {row['peak_memory_mb']:,.0f} MB"
    speed, memory = scale["streamed_speed_over_resident"], scale["streamed_memory_over_resident_mb"]
    yield "600,000 images, beside 60,000", f"{speed:.1%} of the speed, {memory:+.0f} MB"
    epochs = scale["epochs_of_smoke"]
    yield (
        f"an epoch of `smoke`, the first five and the last five of {epochs['epochs']}",
        f"{epochs['early_epoch_seconds']:.2f} s and {epochs['late_epoch_seconds']:.2f} s",
    )
    yield "memory that those epochs added", f"{epochs['memory_growth_mb']:+.1f} MB"


def _rendering(rendering: Results) -> Iterator[tuple[str, ...]]:
    seconds, speedup = rendering["this_project_seconds"], rendering["speedup"]
    yield "what", "measured"
    yield (
        f"a sample grid of each epoch and the animation of {rendering['epochs']} epochs",
        f"{seconds:.2f} s, {speedup:.0f} times as fast as with figures of matplotlib",
    )


def _load(load: Results) -> Iterator[tuple[str, ...]]:
    yield "what", "measured"
    yield "`make stack` on an empty state folder, until all answers", f"{load['ready_seconds']} s"
    yield "until `dcgan/smoke` is finished", f"{load['smoke_seconds']} s"
    completed = load["flow_runs_by_state"].get("COMPLETED", 0)
    yield (
        f"{load['flow_runs']} flow runs queued at once, each set to three states",
        f"{completed} completed, all within {load['flow_runs_seconds']} s",
    )
    for name, title in (
        ("written", "requests of these flow runs"),
        ("prefect", f"requests of {load['clients'] // 2} readers of Prefect's flow runs"),
        ("mlflow", f"requests of {load['clients'] // 2} readers of MLflow's runs"),
    ):
        answers = load[name]
        failed = sum(count for status, count in answers["statuses"].items() if not status.startswith("2"))
        yield (
            title,
            f"{answers['requests']}, {failed} failed; half within {answers['median_seconds']:.1f} s, "
            f"95% within {answers['p95_seconds']:.1f} s",
        )


def _capacity(load: Results) -> Iterator[tuple[str, ...]]:
    yield "what", "per second"
    for name, title in (("prefect", "lists of Prefect's flow runs"), ("mlflow", "lists of MLflow's runs")):
        yield title, f"{load[name]['requests'] / load['seconds']:.0f}"
    yield "states of flow runs", f"{load['written']['requests'] / load['flow_runs_seconds']:.0f}"


def _gpu_epochs(gpu: Results) -> Iterator[tuple[str, ...]]:
    yield "first epoch", "seconds with compiling", "images/s", "Fréchet distance"
    for epoch in gpu["epochs"]:
        yield (
            f"`{epoch['recipe']}`, {epoch['precision']}",
            f"{epoch['epoch_seconds']:.1f}",
            f"{epoch['images_per_second']:,.0f}",
            f"{epoch['frechet_distance']:.1f}",
        )


COUNTED = {
    "mlflow_requests": "requests to MLflow",
    "mlflow_rows": "rows written to MLflow's database",
    "mlflow_transactions": "transactions of MLflow's database",
    "prefect_rows": "rows written to Prefect's database",
    "prefect_transactions": "transactions of Prefect's database",
}


def _records(records: Results) -> Iterator[tuple[str, ...]]:
    yield "what", "a training run", "each epoch", "each minute of training", "each minute of the idle stack"
    for name, title in COUNTED.items():
        counts = records["counts"][name]
        yield title, *(f"{max(0, counts[which]):,.0f}" for which in ("run", "epoch", "minute", "idle_minute"))


def _records_note(records: Results) -> str:
    mlflow, prefect = (_growth(records, f"{name}_bytes") / 1e3 for name in ("mlflow", "prefect"))
    return f"A training run added {mlflow:.0f} KB to MLflow's database and {prefect:.0f} KB to Prefect's, on average."


def _growth(records: Results, name: str) -> float:
    """Return how many bytes a measured training run added to a database on average; they grow in steps."""
    counts, runs = records["counts"][name], records["runs"]
    added = (
        counts["run"] + run["epochs"] * counts["epoch"] + run["training_minutes"] * counts["minute"] for run in runs
    )
    return sum(added) / len(runs)


def _artifacts(records: Results) -> Iterator[tuple[str, ...]]:
    yield "artifacts of a run", "objects", "MB"
    for name, found in records["artifacts"].items():
        yield f"`{name}`", str(found["objects"]), f"{found['bytes'] / 1e6:.2f}"


def _demand(records: Results, quality: Results, load: Results) -> Iterator[tuple[str, ...]]:
    """Return what concurrent runs of `fast` ask for, each as fast as one was measured on a machine of its own."""
    fast = next(run for run in quality["training_runs"].values() if run["recipe"] == "fast")
    epoch_minutes = sum(fast["epoch_seconds"]) / len(fast["epoch_seconds"]) / 60
    run_minutes = fast["command_seconds"] / 60
    checkpoint = max(found["bytes"] for name, found in records["artifacts"].items() if name.startswith("checkpoints/"))

    def per_minute(name: str) -> float:
        counts = records["counts"][name]
        return counts["run"] / run_minutes + counts["epoch"] / epoch_minutes + counts["minute"]

    runs = (1, 100, 10_000)
    yield "training runs at once", *(f"{number:,}" for number in runs)
    requests = per_minute("mlflow_requests") / 60
    cores = requests * load["machine"]["cores"] / (load["mlflow"]["requests"] / load["seconds"])
    checkpoints_per_second = 1 / (60 * epoch_minutes * FAST.checkpoint_every)
    for title, each in (
        ("requests to MLflow, per second", requests),
        ("cores for them, if each took as long as a list of runs in the load test", cores),
        ("transactions of MLflow's database, per second", per_minute("mlflow_transactions") / 60),
        ("transactions of Prefect's database, per second", per_minute("prefect_transactions") / 60),
        ("checkpoints to the bucket, MB per second", checkpoint / 1e6 * checkpoints_per_second),
        ("growth of MLflow's database, GB per day", _growth(records, "mlflow_bytes") * 1440 / run_minutes / 1e9),
        ("growth of Prefect's database, GB per day", _growth(records, "prefect_bytes") * 1440 / run_minutes / 1e9),
    ):
        yield title, *(f"{number * each:,.2f}" if number * each < 100 else f"{number * each:,.0f}" for number in runs)


def _quality(quality: Results) -> Iterator[tuple[str, ...]]:
    runs = quality["training_runs"]
    yield (
        "what",
        "precision",
        "epochs",
        "all",
        "selection classifier",
        "held-out classifier",
        "low confidence",
        "measured",
    )
    for run in runs.values():
        yield (
            f"`{run['recipe']}`, seed {run['seed']}, {run['epochs']} epochs",
            run["precision"],
            *(_minutes(run[f"{what}_seconds"]) for what in ("training", "command")),
            *(_estimate(_distance(run, role)) for role in ROLES),
            _low_confidence(run),
            run["at"][:10],
        )
    run = next(iter(runs.values()))
    for name in ("train", "noisy", "blurred", "untrained"):
        title = "training images" if name == "train" else name
        distances = (_estimate(_distance(run, role, name)) for role in ROLES)
        yield f"baseline: {title}", "", "", "", *distances, _low_confidence(run, name), ""


def _minutes(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds / 60:.1f} min"


def _passing(quality: Results) -> Iterator[tuple[str, ...]]:
    yield (
        "`fast`",
        "passed in epoch",
        "over `classic`'s distance, selection",
        "held-out",
        "over that of training images, selection",
        "held-out",
    )
    for name, beside in quality["comparison"]["fast"].items():
        yield (
            f"seed {quality['training_runs'][name]['seed']}",
            str(beside["epoch_that_passed"] or "none"),
            *(f"{beside[f'{role}_over_{other}']:.2f}" for other in ("classic", "train") for role in ROLES),
        )


def _passing_note(quality: Results) -> str:
    comparison = quality["comparison"]
    return (
        f"The best of {CLASSIC.epochs} epochs of `classic` has the distance "
        f"{comparison['best_epoch_of_classic']:.0f}, of 5,000 images by the selection classifier."
    )


def _distance(run: Results, role: str, what: str = "generator") -> dict[str, float]:
    return run[role][what]["frechet_distance"]


def _low_confidence(run: Results, what: str = "generator") -> str:
    """Return the fraction of images of which the selection classifier is not sure."""
    return f"{run['selection'][what]['low_confidence_fraction']['value']:.1%}"


def _estimate(distance: dict[str, float]) -> str:
    return f"{distance['value']:.2f} ± {distance['standard_error']:.2f}"
