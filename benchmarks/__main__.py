"""Run all benchmarks, or those that are named: `python -m benchmarks [NAME ...]`."""

import argparse
import importlib

PROGRAMS = ("step", "pipeline", "scale", "rendering")


def main() -> None:
    """Run the programs one after another: each is a module with a function `main`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PROGRAMS)}; all without one")
    names = parser.parse_args().names or PROGRAMS
    if unknown := sorted(set(names) - set(PROGRAMS)):
        parser.error(f"there is no benchmark {unknown[0]}; expected one of {', '.join(PROGRAMS)}")
    for name in names:
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()
