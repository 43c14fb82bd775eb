"""Changes to a recipe's hyperparameters: their fields in Prefect's form, and how the command line gives them."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, Token
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from dcgan.errors import ConfigurationError, invalid_value
from dcgan.recipe import RECIPES, Recipe, require_hyperparameters

if TYPE_CHECKING:
    Changes = dict[str, Any]
else:
    # the recipe's own fields, none of them required: with a default, the form could not tell unset from null
    Changes = TypedDict(
        "Changes",
        {
            name: Annotated[field.annotation, *field.metadata, Field(description=field.description)]
            for name, field in Recipe.model_fields.items()
        },
        total=False,
    )
    Changes.__pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)


def _from_assignments(_type: object, tokens: Sequence[Token]) -> Changes:
    """Return what every `--set NAME=VALUE` says; the last one of a name wins."""
    changes: dict[str, str | None] = {}
    for token in tokens:
        name, equals, value = (part.strip() for part in token.value.partition("="))
        if not (name and equals):
            raise ConfigurationError(f"--set: {token.value!r}; expected NAME=VALUE, as in --set batch_size=128.")
        changes[name] = None if value == "null" else value
    return _validated(changes, "--set ")


Hyperparameters = Annotated[
    Changes,
    Parameter(
        name="--set",
        converter=_from_assignments,
        metavar="NAME=VALUE",
        show_default=False,
        accepts_keys=False,
        n_tokens=-1,
        consume_multiple=False,
    ),
]


def with_recipe_files(tokens: Sequence[str]) -> list[str]:
    """Return a command line in which `--recipe FILE.toml` is replaced by the recipe that the file is based on.

    What the file changes follows as assignments, before the command line's own, which win.

    Raises:
        ConfigurationError: A file is unusable.
    """
    given, read = list(tokens), []
    for index, token in enumerate(given):
        flag, equals, value = token.partition("=")
        if flag == "--recipe" and not equals and index + 1 < len(given):
            value = given[index + 1]
        if flag == "--recipe" and value.endswith(".toml"):
            base, changes = _read_file(Path(value))
            given[index : index + (1 if equals else 2)] = [f"--recipe={base}"]
            read += [f"--set={name}={value}" for name, value in changes.items()]
    first = next((index for index, token in enumerate(given) if token.split("=")[0] in ("--recipe", "--set")), 0)
    return [*given[:first], *read, *given[first:]]


def _read_file(path: Path) -> tuple[str, Changes]:
    """Return the name of the recipe that a file is based on, and what it changes."""
    try:
        changes = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"The recipe {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise ConfigurationError(f"The recipe {path} is not TOML: {error}.") from None
    base = changes.pop("base", None)
    if base not in RECIPES:
        found = "names no recipe to start from" if base is None else f"starts from {base!r}, which is no recipe"
        raise ConfigurationError(f"The recipe {path} {found}; expected base = one of {', '.join(RECIPES)}.")
    return base, _validated(changes, f"{path}: ")


def _validated(changes: Changes, where: str) -> Changes:
    require_hyperparameters(changes)
    try:
        return TypeAdapter(Changes).validate_python(changes)
    except ValidationError as error:
        raise ConfigurationError(invalid_value(f"{where}{error.errors()[0]['loc'][0]}", error)) from None
