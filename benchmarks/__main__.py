"""Run all benchmarks, or those that are named: `python -m benchmarks [NAME ...]`."""

import argparse
import importlib

PROGRAMS = ("step", "pipeline", "scale", "rendering")
ON_REQUEST = ("quality", "fashion", "tables")  # long ones, and one that measures nothing


def main() -> None:
    """Run the programs one after another: each is a module with a function `main`."""
    names = (*PROGRAMS, *ON_REQUEST)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"{', '.join(PROGRAMS)}, which run when none is named; quality, which takes up to an hour and a half; "
        "fashion, which takes 20 minutes; or tables, which writes the documents' tables from stored results",
    )
    chosen = parser.parse_args().names or PROGRAMS
    if unknown := sorted(set(chosen) - set(names)):
        parser.error(f"there is no benchmark {unknown[0]}; expected one of {', '.join(names)}")
    for name in chosen:
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()
