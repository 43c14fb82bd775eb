"""Run all benchmarks, or those that are named: `python -m benchmarks [NAME ...]`."""

import argparse
import importlib

PROGRAMS = ("step", "pipeline", "scale", "rendering")
LONG = ("quality",)  # hours: only where it is named


def main() -> None:
    """Run the programs one after another: each is a module with a function `main`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    help_text = (
        f"of {', '.join(PROGRAMS)}, which run without one, and {', '.join(LONG)}, which takes an hour and a half"
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=help_text)
    names = parser.parse_args().names or PROGRAMS
    if unknown := sorted(set(names) - {*PROGRAMS, *LONG}):
        parser.error(f"there is no benchmark {unknown[0]}; expected one of {', '.join(PROGRAMS + LONG)}")
    for name in names:
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()
