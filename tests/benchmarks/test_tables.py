"""The tables of the documents are those that `python -m benchmarks tables` makes of the stored results."""

import re

import pytest

from benchmarks import tables
from benchmarks.tables import DOCUMENTS, MARKED, with_tables


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_tables_are_up_to_date(document):
    """Making them again changes nothing."""
    assert with_tables(document) == document.read_text()


def test_every_table_is_in_a_document():
    """Each table has its place, once."""
    placed = [name for document in DOCUMENTS for _, name, _ in MARKED.findall(document.read_text())]
    assert sorted(placed) == sorted(tables.tables())


def test_markers_come_in_pairs():
    """A marker that lacks its end would be ignored."""
    for document in DOCUMENTS:
        comments = re.findall(r"<!-- (table|end)", document.read_text())
        assert comments == ["table", "end"] * (len(comments) // 2)


@pytest.fixture
def document(tmp_path):
    """Return a function that writes a document with one table between markers."""

    def write(name: str):
        path = tmp_path / "page.md"
        path.write_text(f"before\n<!-- table: {name} -->\n| old |\n<!-- end -->\nafter\n")
        return path

    return write


def test_only_what_is_between_the_markers_is_replaced(document):
    """The text around a table stays, and the table names its machine and its results file."""
    before, *table, after, _ = with_tables(document("rendering")).split("\n")
    assert (before, after) == ("before", "after")
    assert table[0] == "<!-- table: rendering -->"
    assert re.fullmatch(r"Measured on \d+ cores of an .+ \(\[rendering.json\]\(.*benchmarks/results/.*\)\)\.", table[2])
    assert table[3:6] == ["", "| what | measured |", "|---|---|"]
    assert len(table) == 9
    assert table[-2:] == ["", "<!-- end -->"]


def test_an_unknown_table_is_refused(document):
    """A misspelt name is an error that says which names there are."""
    with pytest.raises(ValueError, match=r"page\.md: there is no table rendring; expected one of results, times, "):
        with_tables(document("rendring"))
