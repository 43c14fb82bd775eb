"""The parameters of each flow: one model draws Prefect's form, parses the command line, and validates both."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from dcgan.errors import ConfigurationError
from dcgan.parquet import MAX_ROWS
from dcgan.recipe import RECIPES, Recipe, RecipeName
from tasks.sources import check_source

P = TypeVar("P", bound=BaseModel)
R = TypeVar("R")


def _usable(source: str) -> str:
    """Return a source that may exist.

    Raises:
        ValueError: it cannot be one.
    """
    try:
        check_source(source)
    except ConfigurationError as error:
        raise ValueError(str(error)) from None
    return source


# the pattern is for Prefect's server, which else would store a password before this code sees it
NO_CREDENTIALS = {"type": "string", "minLength": 1, "pattern": "^(?![^/]*://[^/]*@)"}
Source = Annotated[str, Field(min_length=1), AfterValidator(_usable), WithJsonSchema(NO_CREDENTIALS)]
Number = Annotated[int, Field(ge=1)]
Alias = Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9_-]*$")]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class TrainParameters(BaseModel):
    """What `dcgan/train` can be told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: RecipeName = Field("fast", description="which recipe to train")
    epochs: Number | None = Field(None, description="instead of the recipe's number of epochs")
    seed: Seed | None = Field(0, description="of everything random; null takes one from the flow run's id")
    source: Source = Field("auto", description="auto, bundled, or a folder or URL that holds the four IDX files")
    resume: str = Field(
        "auto",
        pattern="^(auto|never|[0-9a-f]{32})$",
        description="auto, never, or the id of the MLflow run to go on with",
    )
    device: Literal["auto", "cpu", "gpu"] = Field("auto", description="where to train")
    promotion: Literal["auto", "manual"] = Field(
        "auto", description="what becomes of a generator that is better than the champion: auto promotes it"
    )

    def resolved_recipe(self) -> Recipe:
        """Return the recipe with what the parameters change in it."""
        recipe = RECIPES[self.recipe]
        return recipe.model_copy(update={"epochs": self.epochs}) if self.epochs else recipe


class EvaluateParameters(BaseModel):
    """What `dcgan-evaluate/evaluate` can be told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Number | Alias = Field("champion", description="the version's number, or an alias such as champion")
    source: Source = Field("auto", description="auto, bundled, or a folder or URL that holds the four IDX files")


class PromoteParameters(BaseModel):
    """What `dcgan-promote/promote` can be told: a version, or rollback."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Number | None = Field(None, description="the number of the version that becomes the champion")
    rollback: bool = Field(False, description="make the previous champion the champion again")
    force: bool = Field(False, description="promote the version whatever its verdict is; this is recorded")

    @model_validator(mode="after")
    def _require_one(self) -> Self:
        if (self.version is None) is not self.rollback:
            raise ValueError("expected either --version with a number, or --rollback.")
        if self.force and self.rollback:
            raise ValueError("--force goes with --version; a rollback needs none.")
        return self


class GenerateParameters(BaseModel):
    """What `dcgan-generate/generate` can be told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Number | Alias = Field("champion", description="the version's number, or an alias such as champion")
    count: Annotated[int, Field(ge=1, le=MAX_ROWS)] = Field(64, description="how many pictures")
    seed: Seed = Field(0, description="of the latents; the same seed gives the same pictures")
    out: Path | None = Field(
        None,
        description="a new folder for PNG files, FILE.png for one grid, or FILE.parquet; "
        "null is a grid under the state folder",
    )


def takes(model: type[P]) -> Callable[[Callable[[P], R]], Callable[..., R]]:
    """Give a flow's body the fields of `model` as keyword parameters, as Prefect and its users expect them.

    The body takes the model; the function that Prefect sees has one parameter for each of its fields, with its type,
    default and description.
    """

    def decorate(body: Callable[[P], R]) -> Callable[..., R]:
        @functools.wraps(body)
        def flow(**values: Any) -> R:
            return body(model(**values))

        fields = model.model_fields.items()
        flow.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # functions may have one
            [
                inspect.Parameter(
                    name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=field.default,
                    annotation=Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation,
                )
                for name, field in fields
            ]
        )
        # Prefect's form takes the descriptions from here
        flow.__doc__ = "\n".join([f"{body.__doc__}\n\nArgs:", *(f"    {n}: {f.description}" for n, f in fields)])
        del flow.__wrapped__  # else the body's own signature would be looked up
        return flow

    return decorate
