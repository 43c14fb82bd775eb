"""The parameters of each flow: one model draws Prefect's form, parses the command line, and validates both."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from dcgan.recipe import RECIPES, Recipe, RecipeName

P = TypeVar("P", bound=BaseModel)
R = TypeVar("R")


class TrainParameters(BaseModel):
    """What `dcgan/train` can be told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: RecipeName = Field("fast", description="which recipe to train")
    epochs: Annotated[int, Field(ge=1)] | None = Field(None, description="instead of the recipe's number of epochs")
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = Field(
        0, description="of everything random; null takes one from the flow run's id"
    )
    source: str = Field(
        "auto", min_length=1, description="auto, bundled, or a folder or URL that holds the four IDX files"
    )
    resume: str = Field(
        "auto",
        pattern="^(auto|never|[0-9a-f]{32})$",
        description="auto, never, or the id of the MLflow run to go on with",
    )
    device: Literal["auto", "cpu", "gpu"] = Field("auto", description="where to train")

    def resolved_recipe(self) -> Recipe:
        """Return the recipe with what the parameters change in it."""
        recipe = RECIPES[self.recipe]
        return recipe.model_copy(update={"epochs": self.epochs}) if self.epochs else recipe


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
