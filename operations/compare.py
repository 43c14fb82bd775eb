"""`dcgan compare`: write a page that shows training runs beside each other."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from dcgan.errors import ConfigurationError
from dcgan.files import atomic_file, expanded, require_writable
from operations.command import print_line, run_operation
from tasks.settings import Settings, quiet_imports

with quiet_imports():
    from dcgan.report.comparison import render_comparison
    from tasks.context import open_context
    from tracking.comparison import find_run, read_run

SHOWN_DIGITS = 8  # of a run's id, in the name of the file


def compare(names: Sequence[str], output: Path | None) -> Path:
    """Write the comparison of runs, and return its path.

    Args:
        names: Ids or names of the runs, or numbers or aliases of the versions that they registered.
        output: The file, replaced where it exists; None writes one below the state folder.

    Raises:
        ConfigurationError: Two names are those of the same run, or the file cannot be written.
        TrackingError: A name is that of no run or of several, or MLflow does not answer.
    """
    context = open_context(Settings.read())
    found: dict[str, str] = {}
    for name in names:
        run_id = find_run(context.store, name)
        if run_id in found:
            raise ConfigurationError(f"{found[run_id]} and {name} are the same run, {run_id}; expected different runs.")
        found[run_id] = name
    runs = [read_run(context.store, run_id) for run_id in found]
    path = output or context.settings.comparisons / f"{'-'.join(run_id[:SHOWN_DIGITS] for run_id in found)}.html"
    page = render_comparison(runs, datetime.now(UTC))
    require_writable(path)
    with atomic_file(path) as file:
        file.write_text(page, encoding="utf-8")
    return path


def main(arguments: list[str]) -> int:
    """Compare and print the page's path; return the exit code."""
    parser = ArgumentParser(prog="dcgan compare", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="Id or name of a run, or number or alias of a version")
    parser.add_argument("--output", type=Path, help="File to write")
    options = parser.parse_args(arguments)
    output = options.output and expanded(options.output)
    return run_operation(lambda: print_line(compare(options.runs, output)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
