"""`dcgan export`: write a registered generator as a TensorFlow SavedModel and as an ONNX file."""

import sys
from argparse import ArgumentParser
from pathlib import Path

from dcgan.errors import ConfigurationError
from dcgan.files import expanded
from operations.command import print_line, run_operation
from tasks.settings import Settings, quiet_imports

with quiet_imports():
    from dcgan.export import ONNX_FILE, export_generator
    from tasks.context import open_context
    from tracking.registry import load_network, resolve


def export(version: str, out: Path) -> None:
    """Write a version as a SavedModel and an ONNX file, with the names that `dcgan.export` gives inputs and outputs.

    Raises:
        ConfigurationError: The folder exists.
        ModelError: There is no such version, or it is not a working generator.
    """
    if out.exists():
        raise ConfigurationError(f"{out}: exists already; expected the name of a new folder.")
    store = open_context(Settings.read()).store
    found = resolve(store, version)
    export_generator(load_network(store, found), out)
    print_line(f"Version {found.number} is a SavedModel in {out}, and an ONNX file in {out / ONNX_FILE}.")


def main(arguments: list[str]) -> int:
    """Export; return the exit code."""
    parser = ArgumentParser(prog="dcgan export", description=__doc__)
    parser.add_argument("out", type=Path, help="Folder to write, which must not exist")
    parser.add_argument("--version", default="champion", help="Number or alias of the version")
    options = parser.parse_args(arguments)
    return run_operation(lambda: export(options.version, expanded(options.out)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
