"""The types of the flows' parameters, with the bounds that Prefect's form, its server and the command line enforce."""

from typing import Annotated

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)

from dcgan.errors import ConfigurationError
from dcgan.recipe import RecipeName
from tasks.sources import check_source

# the pattern is for Prefect's server, which would otherwise store a password before this code sees it
NO_CREDENTIALS = {"type": "string", "minLength": 1, "pattern": "^(?![^/]*://[^/]*@)"}


def _usable(source: str) -> str:
    """Return a source that may exist.

    Raises:
        ValueError: It cannot be one.
    """
    try:
        return check_source(source)
    except ConfigurationError as error:
        raise ValueError(str(error)) from None


def _explained(expected: str) -> WrapValidator:
    """Return what replaces pydantic's reasons, such as a regular expression, by a sentence about what was expected."""

    def validate(value: object, handler: ValidatorFunctionWrapHandler) -> object:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(f"expected {expected}, not {'null' if value is None else repr(value)}.") from None

    return WrapValidator(validate)


Source = Annotated[str, Field(min_length=1), AfterValidator(_usable), WithJsonSchema(NO_CREDENTIALS)]
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Base = Annotated[RecipeName, _explained("fast, classic or smoke, or on the command line the name of a .toml file")]
Alias = Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9_-]*$")]
Version = Annotated[Positive | Alias, _explained("the number of a version from 1, or an alias such as champion")]
Resume = Annotated[
    str,
    Field(pattern="^(auto|never|[0-9a-f]{32})$"),
    _explained("auto, never, or the id of an MLflow run, which has 32 hexadecimal digits"),
]
# a deployment of the training flow
Deployment = Annotated[
    str, Field(pattern="^dcgan/[^/]+$"), _explained("a deployment of the training flow, such as dcgan/train")
]
SweepName = Annotated[
    str,
    Field(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"),
    _explained("up to 64 letters, digits, dots, underscores and hyphens, of which a letter or a digit comes first"),
]
