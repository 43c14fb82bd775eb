"""Generate images with a registered generator."""

import runpy
import sys
from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import Field

from dcgan.data.parquet import MAX_ROWS
from dcgan.files import expanded
from dcgan.generation import output_format
from flows.parameters import Seed, Version
from tasks.results import Generated
from tasks.settings import Settings, quiet_imports


@flow(name="dcgan-generate", flow_run_name="generate-{count}-of-{version}")
def dcgan_generate(
    *,
    version: Version = "champion",
    count: Annotated[int, Field(ge=1, le=MAX_ROWS)] = 64,
    seed: Seed = 0,
    out: Path | None = None,
) -> Generated:
    """Generate images with a registered generator; the same seed gives the same images.

    Args:
        version: Number of the version, or an alias such as champion.
        count: Number of images.
        seed: Random seed of the latents.
        out: A new folder for PNG files, FILE.png for one grid, or FILE.parquet; null writes a grid under the state
            folder.
    """
    with quiet_imports():
        from tasks.context import open_context
        from tasks.generate import generate
        from tasks.prefect_ui import completed

    generated = generate(open_context(Settings.read()), version, count, seed, out)
    return completed(generated, sentence(generated))


def check(count: int = 64, out: Path | None = None, **_: object) -> None:
    """Refuse a place that the images cannot be written to.

    Raises:
        ConfigurationError: The name has another extension, the images are too many, or it is a folder in use.
    """
    if out:
        output_format(expanded(out), count)


def sentence(generated: Generated) -> str:
    """Return what was written where, as one sentence."""
    images = "1 image" if generated.count == 1 else f"{generated.count} images"
    return f"{images} of version {generated.version}, seed {generated.seed}: {generated.out}"


def show(generated: Generated) -> None:
    """Print what was written where."""
    sys.stdout.write(f"{sentence(generated)}\n")


if __name__ == "__main__":
    sys.argv[1:1] = ["generate"]
    runpy.run_module("flows.cli", run_name="__main__")
