"""The types of the flows' parameters, with the bounds that Prefect's form, its server and the command line enforce."""

from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema

from dcgan.errors import ConfigurationError
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


Source = Annotated[str, Field(min_length=1), AfterValidator(_usable), WithJsonSchema(NO_CREDENTIALS)]
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Alias = Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9_-]*$")]
Version = Positive | Alias
Resume = Annotated[str, Field(pattern="^(auto|never|[0-9a-f]{32})$")]
# a deployment of the training flow
Deployment = Annotated[str, Field(pattern="^dcgan/[^/]+$")]
SweepName = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
