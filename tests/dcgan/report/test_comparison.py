"""The page that compares runs: what differs, what is better beyond its error, and nothing but itself."""

import dataclasses
import re
from datetime import UTC, datetime

import pytest

from dcgan.evaluation.metrics import Estimate
from dcgan.report.chart import LINES
from dcgan.report.comparison import ComparedRun, best_of, different_values, render_comparison, sentence_about_latents
from flows.cli import MAX_COMPARED
from tests.dcgan.report.test_render import Reader

MADE = datetime(2026, 11, 26, 15, 31, tzinfo=UTC)


def read(runs: list[ComparedRun]) -> Reader:
    return Reader(render_comparison(runs, MADE))


def words(text: str) -> str:
    return " ".join(text.split())


def rows(reader: Reader) -> list[list[str]]:
    return [[words(cell) for cell in row] for row in reader.rows]


def estimate(value: float, standard_error: float) -> Estimate:
    return Estimate(value=value, standard_error=standard_error)


def test_it_needs_nothing_but_itself(compared):
    """No script, no event handler, nothing to load but data URLs, and links to MLflow alone."""
    reader = read(compared)
    assert {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in reader.elements} == set()
    for tag, attributes in reader.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert attributes.get("src", "data:image/png;").startswith("data:image/png;")
    assert [a["href"] for tag, a in reader.elements if tag == "a"] == [compared[0].url]
    assert "Comparison of 3 training runs\nMade 2026-11-26 15:31 UTC." in reader.text
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_runs_have_their_facts(compared, hostile):
    """Names, ids and what happened, in one column each; what a run does not have is a dash."""
    found = rows(read(compared))
    assert found[0] == ["", "1 fast-seed0", "2 wide-seed0", f"3 {words(hostile)}"]
    assert found[1] == ["MLflow run", *(run.run_id for run in compared)]
    assert ["Status", "finished", "finished", "running"] in found
    assert ["Duration", "0:09:27", "–", "–"] in found


def test_parameters_that_differ(compared, hostile):
    """Each has a row, also where a run has none; those that are equal are counted, and so are equal digests."""
    reader = read(compared)
    found = rows(reader)
    assert ["batch_size", "64", "128", words(hostile)] in found
    assert ["hidden_units", "–", "256", "–"] in found
    assert ["code digest", "c" * 12, "e" * 12, "–"] in found
    assert not [row for row in found if row[0] in ("beta_1", "dataset digest")]
    assert "\n1 parameter is equal, and so is the dataset digest.\n" in reader.text


def test_equal_runs_differ_in_nothing(compared):
    """The table is left out."""
    reader = read([compared[0], dataclasses.replace(compared[0], run_id="3" * 32)])
    assert (
        "No parameter differs; 3 parameters are equal, and so are the dataset digest and the code digest."
        in reader.text
    )


def test_a_run_has_the_same_line_in_every_chart(compared):
    """A chart for each metric, named by the numbers of the runs that have it."""
    reader = read(compared)
    charts = [a["aria-label"].split(" by epoch")[0] for _, a in reader.elements if a.get("role") == "img"]
    assert charts == ["Generator loss", "Discriminator loss", "Fréchet distance", "Images per second"]
    page = render_comparison(compared, MADE)
    figures = re.findall(r"<figcaption>.*?</figcaption>", page.partition("<details>")[0], re.DOTALL)
    keys = [re.findall(r"var\(--(\w+)\).*?</svg>(\d)", figure) for figure in figures]
    assert keys == [[("first", "1")], *[[("first", "1"), ("second", "2")]] * 3]
    assert [
        "epoch",
        "Generator loss, 1",
        *(f"{chart}, {number}" for chart in charts[1:] for number in (1, 2)),
    ] in rows(reader)
    assert ["2", "1.25", "0.45", "0.375", "41.5", "nan", "652", "702"] in rows(reader)
    assert "None of the runs has recorded an epoch." in read([compared[2], compared[2]]).text


def test_final_metrics_have_their_errors(compared):
    """Both classifiers' values of each run, and the better one marked; one that was not evaluated says so."""
    reader = read(compared)
    noisy, blurred = (run.evaluation.candidate for run in compared[:2])
    found = [[cell.replace(" best", "*") for cell in row[-4:]] for row in rows(reader)]
    for role, name in (("selection", "selection"), ("held_out", "held-out")):
        for metric, estimate in noisy.report(role).estimates().items():
            other = blurred.report(role).estimates()[metric]
            mark = "*" if metric in ("frechet_distance", "kernel_distance", "coverage") else ""
            assert [name, f"{estimate}{mark}", str(other), "not evaluated"] in found, metric
    assert "by more than 2 standard errors of their difference" in reader.text


def test_metrics_that_do_not_compare_are_not_marked(compared):
    """Those of other test images are shown, and the page says why none is the best."""
    selection = compared[1].evaluation.candidate.selection.model_copy(update={"reference": "x"})
    candidate = compared[1].evaluation.candidate.model_copy(update={"selection": selection})
    other = dataclasses.replace(
        compared[1], evaluation=compared[1].evaluation.model_copy(update={"candidate": candidate})
    )
    reader = read([compared[0], other])
    assert "their metrics do not compare and none is marked" in reader.text
    assert not [row for row in rows(reader) if row[-1].endswith("best") or row[-2].endswith("best")]


def test_runs_without_an_evaluation(compared):
    """One evaluated run is the best of nothing; without any, there is no table."""
    one = read([compared[0], compared[2]])
    assert not [row for row in rows(one) if row[-2].endswith("best")]
    assert "standard errors of their difference" not in one.text
    assert "None of the runs was evaluated." in read([compared[2], compared[2]]).text


def test_grids_are_side_by_side(compared):
    """The PNG files as they are, with the epoch of each."""
    reader = read(compared)
    assert [png for _, png in reader.images()] == [run.grid.png for run in compared[:2]]
    text = words(reader.text)
    for caption in ("1 fast-seed0: epoch 4", "2 wide-seed0: epoch 2", "no samples were recorded"):
        assert caption in text
    assert "grids of runs with the same seed: 1 and 2." in text
    untrained = dataclasses.replace(compared[0], grid=compared[0].grid._replace(epoch=0))
    assert "1 fast-seed0: before the first epoch" in words(read([untrained, compared[1]]).text)


def test_hostile_names_are_text(compared, hostile):
    """A run named like markup or like a template is shown as it is, and is nothing else."""
    reader = read(compared)
    assert reader.text.count(hostile) > 4
    assert not [tag for tag, a in reader.elements if "example.org" in str(a)]
    assert hostile not in render_comparison(compared, MADE)


@pytest.mark.parametrize(
    ("estimates", "best"),
    [
        ([estimate(10, 1), estimate(13, 1)], 0),  # 3 > 2 · √2
        ([estimate(13, 1), estimate(10, 1)], 1),
        ([estimate(10, 1), estimate(12.8, 1)], None),
        ([estimate(10, 1), estimate(13, 1), estimate(12, 1)], None),
        ([estimate(10, 1), None, estimate(13, 1)], 0),
        ([estimate(10, 1), None], None),
        ([estimate(0, 0), estimate(0, 0)], None),
        ([estimate(0, 0), estimate(9, 0)], 0),
        ([None, None], None),
    ],
)
def test_the_best_is_better_beyond_the_errors(estimates, best):
    """Than every other one, by more than two standard errors of the difference; the sign does not matter."""
    assert best_of(estimates, min) == best
    negative = [each and estimate(-each.value, each.standard_error) for each in estimates]
    assert best_of(negative, max) == best


def test_different_values():
    """In the order in which they appear; a name that a column does not have differs."""
    columns = [{"b": "1", "a": "2"}, {"a": "2", "b": "3", "c": "4"}]
    assert different_values(columns) == {"b": ["1", "3"], "c": [None, "4"]}


@pytest.mark.parametrize(
    ("seeds", "end"),
    [
        (["0", "0"], "same seed, so each place in the grids shows the same latent vector."),
        (["0", "1"], "No two runs have recorded the same seed, so their grids show different latent vectors."),
        ([None, None], "No two runs have recorded the same seed, so their grids show different latent vectors."),
        (["0", "1", "0", "0", "1", None], "in the grids of runs with the same seed: 1, 3 and 4; 2 and 5."),
    ],
)
def test_latents(seeds, end):
    """Runs with the same seed share their fixed latent vectors."""
    assert sentence_about_latents(seeds).endswith(end)


def test_as_many_runs_as_lines(compared):
    """The command takes as many runs as lines can be told apart, and all of them are drawn."""
    assert len(LINES) == MAX_COMPARED
    runs = [dataclasses.replace(compared[0], run_id=str(number) * 32) for number in range(MAX_COMPARED)]
    page = render_comparison(runs, MADE)
    assert {line.color for line in LINES} <= set(re.findall(r"stroke: var\(--(\w+)\)", page))
    assert len(page) < 700_000
