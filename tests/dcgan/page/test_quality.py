"""The page of real digits: whole, self-contained, and with exactly the figures that went in."""

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from dcgan.page.exhibits import STEPS
from dcgan.page.quality import QualityPage, distance_dots, render_page
from dcgan.rendering import image_grid, to_uint8
from tests.dcgan.page.conftest import HOSTILE

VOID = {"meta", "img", "source"}
LOADS = {"src", "href", "srcset", "data", "action", "background", "poster", "xlink:href", "ping", "formaction"}


class Reader(HTMLParser):
    """Reads a page as a browser's parser would, and holds every element open that nothing closes.

    Attributes:
        elements: (tag, attributes) in order.
        rows: the text of each cell of each table row.
        text: all text outside style.
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
        """Open an element."""
        self.elements.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        """Take an element that closes itself, as SVG's do."""
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        """Close the element that was opened last."""
        assert self._open.pop() == tag

    def handle_data(self, data):
        """Take text."""
        if "style" not in self._open:
            self.text += data
            if {"td", "th"} & set(self._open):
                self.rows[-1][-1] += data

    def pictures(self) -> list[tuple[dict[str, str], bytes]]:
        """Return the attributes and the decoded bytes of every img."""
        return [(each, base64.b64decode(each["src"].split(",")[1])) for tag, each in self.elements if tag == "img"]


@pytest.fixture
def read(page) -> Reader:
    return Reader(render_page(page))


def test_it_needs_nothing_but_itself(page, read):
    """No script, no event handler, and no address but data: of pictures; the browser is told to allow nothing else."""
    assert {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in read.elements} == set()
    for tag, attributes in read.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in LOADS & attributes.keys():
            assert re.match("data:image/(png|gif);base64,", attributes[name]), (tag, name)
    assert not re.search(r"url\(|@import", render_page(page))
    (policy,) = (a["content"] for tag, a in read.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")


def test_every_figure_is_there_as_it_was_given(page, read):
    """Each figure has a row for the evaluator and one for the judge, with every column's value and noise."""
    rows = [[" ".join(cell.split()) for cell in row] for row in read.rows]
    for columns, observer in ((page.evaluator, "evaluator"), (page.judge, "judge")):
        for name in page.evaluator["version 2"].estimates():
            wanted = [observer, *(str(report.estimates()[name]) for report in columns.values())]
            assert wanted in [row[-len(wanted) :] for row in rows], name
    assert ["figure", "seen by", *page.evaluator] in rows


def test_the_classes_are_counted(page, read):
    """A row for each class: what either classifier sees, and a bar in proportion."""
    (own, *_), (judged, *_) = page.evaluator.values(), page.judge.values()
    for label, counts in enumerate(zip(own.class_counts, judged.class_counts, strict=True)):
        assert [str(label), "", *(f"{count:,}" for count in counts)] in read.rows
    widths = [float(w) for w in re.findall(r'class="fill" style="width:([\d.]+)%', render_page(page))]
    np.testing.assert_allclose(widths, 100 * np.array(own.class_counts) / max(own.class_counts), atol=0.005)


def test_the_verdict_and_its_conditions(page, read):
    """Passed, why, and each condition with what was found."""
    assert f"Passed the gate.\n{page.verdict.reason}" in re.sub(r"\n+", "\n", read.text)
    found = [f"{check.found:.4g}" for check in page.verdict.checks]
    assert [row[1] for row in read.rows if row[-1] == "yes"] == found
    failed = dataclasses.replace(page, verdict=page.verdict.model_copy(update={"passed": False}))
    assert "Did not pass the gate." in render_page(failed)


def test_the_pictures_are_the_generators(page, read):
    """The grid, each frame of the animation and both of each pair are what went in, pixel for pixel, and described."""
    (_, grid), (_, walk), *pairs = read.pictures()
    assert all(attributes["alt"] for attributes, _ in read.pictures())
    np.testing.assert_array_equal(Image.open(io.BytesIO(grid)), image_grid(page.exhibits.walk[::STEPS]))
    with Image.open(io.BytesIO(walk)) as animation:
        assert (animation.n_frames, animation.info["loop"]) == (128, 0)
        for index in (0, STEPS, 127):
            animation.seek(index)
            np.testing.assert_array_equal(animation.convert("L"), to_uint8(page.exhibits.walk[index, ..., 0]))
    shown = [np.asarray(Image.open(io.BytesIO(picture))) for _, picture in pairs]
    np.testing.assert_array_equal(shown[::2], to_uint8(page.exhibits.pairs.images[..., 0]))
    np.testing.assert_array_equal(shown[1::2], to_uint8(page.exhibits.pairs.training[..., 0]))
    assert len(walk) < 200_000


def test_a_copy_comes_first(page, read):
    """Each pair says its distance in parts of its kind's; the training image among the generated ones has 0."""
    pairs = page.exhibits.pairs
    shown = [tuple(map(float, found)) for found in re.findall(r"(\d\.\d\d) (\S+) of (\S+)\n", read.text)]
    wanted = np.stack([pairs.distances / pairs.thresholds, pairs.distances, pairs.thresholds], axis=1)
    np.testing.assert_allclose(shown, wanted, atol=0.005)
    assert shown[0][:2] == (0, 0)


def test_curves_and_their_numbers(page, read):
    """A chart for each metric that was recorded, the best epoch marked, and a table with every number."""
    charts = [a["aria-label"].split(" by epoch")[0] for tag, a in read.elements if tag == "svg"]
    assert charts == ["Fréchet distance", "losses"]
    assert read.text.count("best: 3") == 2
    assert ["1", "310.2", "0.75", "0.5"] in read.rows
    assert ["4", "13.5", "1.625", ""] in read.rows


def test_hostile_names_are_text(read):
    """A source named like markup or like a template is shown as it is, and is nothing else."""
    assert HOSTILE in read.text
    assert not [tag for tag, a in read.elements if "example.org" in str(a)]


def test_what_is_not_known_is_left_out(page):
    """A version with no verdict and no recorded training has a page without them."""
    bare = dataclasses.replace(page, verdict=None, history={}, best_epoch=None, facts={})
    read = Reader(render_page(bare))
    assert "gate" not in read.text.replace(page.sentence, "")
    assert "The training\n" not in read.text
    assert "svg" not in [tag for tag, _ in read.elements]


def test_dots_lie_in_order_on_one_axis(page):
    """From the least end of a whisker, at 0, to the greatest, at 100, in the order of the distances."""
    dots = distance_dots(page.evaluator)
    assert min(dot.begins for dot in dots.values()) == 0
    assert max(dot.ends for dot in dots.values()) == pytest.approx(100)
    by_value = sorted(dots.values(), key=lambda dot: dot.estimate.value)
    assert [dot.at for dot in by_value] == sorted(dot.at for dot in by_value)
    assert all(dot.begins <= dot.at <= dot.ends for dot in by_value)


def test_it_is_small(page: QualityPage):
    """A file to send around."""
    assert len(render_page(page)) < 400_000
