"""Generate pictures with a registered generator."""

import sys

from prefect import flow
from rich.console import Console

from flows.command import CommandFlags, run_flow
from flows.parameters import GenerateParameters, takes
from tasks.generate import Generated, generate


@flow(name="dcgan-generate")
@takes(GenerateParameters)
def dcgan_generate(parameters: GenerateParameters) -> Generated:
    """Write pictures of a version as PNG files, as one grid, or as Parquet."""
    return generate(parameters.version, parameters.count, parameters.seed, parameters.out)


class GenerateCommand(CommandFlags, GenerateParameters):
    """Generate pictures with a registered generator; the same seed gives the same pictures."""


def main(arguments: list[str]) -> int:
    """Generate in this process and return the exit code."""
    return run_flow(GenerateCommand, "python -m flows.generate", arguments, _generate)


def _generate(command: GenerateCommand) -> None:
    generated = dcgan_generate(**command.model_dump(exclude={"debug"}))
    Console(soft_wrap=True).print(
        f"{generated.count} pictures of version {generated.version}, seed {generated.seed}: {generated.out}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
