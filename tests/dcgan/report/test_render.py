"""The report of real digits: complete, self-contained, and with exactly the values that went in."""

import base64
import dataclasses
import io
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from dcgan.images import image_grid, to_uint8
from dcgan.report.render import STEPS, ReportPage, distance_dots, render_report

VOID = {"meta", "img", "source"}
LOADS = {"src", "href", "srcset", "data", "action", "background", "poster", "xlink:href", "ping", "formaction"}


class Reader(HTMLParser):
    """Reads a page like the parser of a browser, and fails if an element is not closed.

    Attributes:
        elements: The (tag, attributes) of each element, in order.
        rows: The text of each cell of each table row.
        text: All text outside style sheets.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        """Record an element that may have content."""
        self.elements.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        """Record an element that closes itself, as those of SVG do."""
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        """Close the last open element."""
        assert self._open.pop() == tag

    def handle_data(self, data):
        """Record text."""
        if "style" not in self._open:
            self.text += data
            if {"td", "th"} & set(self._open):
                self.rows[-1][-1] += data

    def images(self) -> list[tuple[dict[str, str], bytes]]:
        """Return the attributes and the decoded bytes of every img."""
        return [(each, base64.b64decode(each["src"].split(",")[1])) for tag, each in self.elements if tag == "img"]


@pytest.fixture
def read(page) -> Reader:
    return Reader(render_report(page))


def test_it_needs_nothing_but_itself(page, read):
    """No script, no event handler, and no address but data URLs of images and ids; the policy allows nothing else."""
    assert {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in read.elements} == set()
    for tag, attributes in read.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in LOADS & attributes.keys():
            assert tag == "a" or re.match("data:image/(png|gif);base64,|#", attributes[name]), (tag, name)
    assert not re.search(r"url\((?!#)|@import", render_report(page))
    (policy,) = (a["content"] for tag, a in read.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")


def test_ids_are_unique_and_references_are_defined(page, read):
    """The drawings refer to parts of their own, which no other drawing of the page defines."""
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert ids
    assert len(ids) == len(set(ids))
    references = re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', render_report(page))
    assert {one or other for one, other in references} == set(ids)


def test_all_metrics_are_there_as_they_were_given(page, read):
    """Each has a row for each classifier, with the value and the standard error of every column."""
    rows = [[" ".join(cell.split()) for cell in row] for row in read.rows]
    for columns, classifier in ((page.selection, "selection"), (page.held_out, "held-out")):
        for name in page.selection["version 2"].estimates():
            wanted = [classifier, *(str(report.estimates()[name]) for report in columns.values())]
            assert wanted in [row[-len(wanted) :] for row in rows], name
    assert ["metric", "classifier", *page.selection] in rows


def test_the_classes_are_counted(page, read):
    """A row for each class: what both classifiers predict, and a bar in proportion."""
    (own, *_), (held_out, *_) = page.selection.values(), page.held_out.values()
    for label, counts in enumerate(zip(own.class_counts, held_out.class_counts, strict=True)):
        assert [str(label), "", *(f"{count:,}" for count in counts)] in read.rows
    widths = [float(w) for w in re.findall(r'class="fill" style="width:([\d.]+)%', render_report(page))]
    np.testing.assert_allclose(widths, 100 * np.array(own.class_counts) / max(own.class_counts), atol=0.005)


def test_the_verdict_and_its_conditions(page, read):
    """Passed, why, and each condition with the value that was measured."""
    assert f"Passed the gate.\n{page.verdict.reason}" in re.sub(r"\n+", "\n", read.text)
    values = [f"{check.value:.4g}" for check in page.verdict.checks]
    assert [row[1] for row in read.rows if row[-1] == "yes"] == values
    failed = dataclasses.replace(page, verdict=page.verdict.model_copy(update={"passed": False}))
    assert "Did not pass the gate." in render_report(failed)


def test_the_images_are_those_of_the_generator(page, read):
    """The grid, the frames of the animation and both images of each pair are equal pixel by pixel, and described."""
    (_, grid), (_, walk), *pairs = read.images()
    assert all(attributes["alt"] for attributes, _ in read.images())
    np.testing.assert_array_equal(Image.open(io.BytesIO(grid)), image_grid(page.samples.walk[::STEPS]))
    with Image.open(io.BytesIO(walk)) as animation:
        assert (animation.n_frames, animation.info["loop"]) == (128, 0)
        for index in (0, STEPS, 127):
            animation.seek(index)
            np.testing.assert_array_equal(animation.convert("L"), to_uint8(page.samples.walk[index, ..., 0]))
    shown = [np.asarray(Image.open(io.BytesIO(image))) for _, image in pairs]
    np.testing.assert_array_equal(shown[::2], to_uint8(page.samples.pairs.images[..., 0]))
    np.testing.assert_array_equal(shown[1::2], to_uint8(page.samples.pairs.training[..., 0]))
    assert len(walk) < 200_000


def test_a_copy_comes_first(page, read):
    """Each pair has its distance relative to the threshold; the training image among the generated ones has 0."""
    pairs = page.samples.pairs
    shown = [tuple(map(float, found)) for found in re.findall(r"(\d\.\d\d) (\S+) of (\S+)\n", read.text)]
    wanted = np.stack([pairs.distances / pairs.thresholds, pairs.distances, pairs.thresholds], axis=1)
    np.testing.assert_allclose(shown, wanted, atol=0.005)
    assert shown[0][:2] == (0, 0)


def test_curves_and_their_numbers(page, read):
    """A chart for each metric that was recorded, the best epoch marked, and a table with all numbers."""
    charts = [a["aria-label"].split(" by epoch")[0] for _, a in read.elements if a.get("role") == "img"]
    assert charts == ["Fréchet distance", "Losses"]
    assert "Fréchet distance\n(logarithmic)" in re.sub(r"\n+", "\n", read.text)
    assert read.text.count("best: 3") == 2
    assert ["epoch", "Fréchet distance", "generator", "discriminator"] in read.rows
    assert ["1", "310.2", "0.75", "0.5"] in read.rows
    assert ["4", "13.5", "1.625", ""] in read.rows


def test_values_that_are_not_finite_do_not_prevent_a_report(page):
    """They are in the table, and the curves are drawn without them."""
    history = {"frechet_distance": {1: math.nan, 2: 41.5}, "generator_loss": {1: math.inf}}
    read = Reader(render_report(dataclasses.replace(page, history=history, best_epoch=2)))
    charts = [a["aria-label"].split(" by epoch")[0] for _, a in read.elements if a.get("role") == "img"]
    assert charts == ["Fréchet distance"]
    assert ["1", "nan"] in read.rows


def test_hostile_names_are_text(read, hostile):
    """A source named like markup or like a template is shown as it is, and is nothing else."""
    assert hostile in read.text
    assert not [tag for tag, a in read.elements if "example.org" in str(a)]


def test_it_says_when_it_was_made_and_links_what_it_names(page, read):
    """What is among the facts is a link there; the rest is named beside them; a link opens a page of its own."""
    assert "2026-03-04 05:06 UTC" in read.text
    links = [attributes for tag, attributes in read.elements if tag == "a"]
    assert [each["href"] for each in links] == list(page.links.values())
    assert {(each["target"], each["rel"]) for each in links} == {("_blank", "noopener")}
    assert "See also" in read.text


def test_what_is_not_known_is_left_out(page):
    """A version with no verdict and no recorded training run has a report without them."""
    bare = dataclasses.replace(page, verdict=None, history={}, best_epoch=None, facts={}, links={})
    read = Reader(render_report(bare))
    assert "gate" not in read.text.replace(page.sentence, "")
    assert "Training curves" in Reader(render_report(page)).text
    assert "Training curves" not in read.text
    assert "See also" not in read.text
    assert "svg" not in [tag for tag, _ in read.elements]


def test_dots_lie_in_order_on_one_axis(page):
    """From the lowest end of a whisker, at 0, to the highest, at 100, in the order of the distances."""
    dots = distance_dots(page.selection)
    assert min(dot.begins for dot in dots.values()) == 0
    assert max(dot.ends for dot in dots.values()) == pytest.approx(100)
    by_value = sorted(dots.values(), key=lambda dot: dot.estimate.value)
    assert [dot.at for dot in by_value] == sorted(dot.at for dot in by_value)
    assert all(dot.begins <= dot.at <= dot.ends for dot in by_value)


def test_the_file_is_small(page: ReportPage):
    """It can be sent by e-mail."""
    assert len(render_report(page)) < 400_000
