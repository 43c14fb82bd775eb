"""Hyperparameters other than a recipe's, one or several: their fields in Prefect's form and on the command line."""

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, Token
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from dcgan.errors import ConfigurationError, invalid_value
from dcgan.recipe import RECIPES, Recipe, require_hyperparameters
from flows.parameters import Seed

NOT_OF_A_RECIPE = ("seed", "source", "resume", "device", "promotion")  # but of the command

if TYPE_CHECKING:
    Changes = dict[str, Any]
    Values = dict[str, list[Any]]
    Ranges = dict[str, str]
else:

    def _for_each_hyperparameter(name: str, annotation: Callable[[FieldInfo], object]) -> type:
        """Return a type with the recipe's own fields, of other types, none of them required."""
        # none with a default either: the form could not tell unset from null
        fields = {
            name: Annotated[annotation(field), Field(description=field.description)]
            for name, field in Recipe.model_fields.items()
        }
        made = TypedDict(name, fields, total=False)
        made.__pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)
        return made

    Changes = _for_each_hyperparameter("Changes", FieldInfo.rebuild_annotation)
    Values = _for_each_hyperparameter(
        "Values", lambda field: Annotated[list[field.rebuild_annotation()], Field(min_length=1)]
    )
    Ranges = _for_each_hyperparameter("Ranges", lambda _: Annotated[str, Field(min_length=1)])


def _from_assignments(_type: object, tokens: Sequence[Token]) -> Changes:
    """Return what every `--set NAME=VALUE` says; the last one of a name wins."""
    changes = _assignments(tokens, "--set", "batch_size=128")
    return _validated({name: _or_null(value) for name, value in changes.items()}, "--set ")


def _grid_from_assignments(_type: object, tokens: Sequence[Token]) -> Values:
    """Return what every `--grid NAME=VALUE,VALUE` says."""
    grid = _assignments(tokens, "--grid", "batch_size=64,128")
    values = {name: [_or_null(value.strip()) for value in text.split(",")] for name, text in grid.items()}
    return _validated(values, "--grid ", Values)


def _ranges_from_assignments(_type: object, tokens: Sequence[Token]) -> Ranges:
    """Return what every `--search NAME=LOW..HIGH` says, still as text."""
    return _validated(_assignments(tokens, "--search", "beta_1=0.3..0.9"), "--search ", Ranges)


def _seeds_from_text(_type: object, tokens: Sequence[Token]) -> list[int]:
    """Return the seeds of `--seeds 0,1,2`."""
    try:
        return TypeAdapter(Seeds).validate_python([seed.strip() for seed in tokens[-1].value.split(",")])
    except ValidationError as error:
        raise ConfigurationError(invalid_value("--seeds", error)) from None


def _assignments(tokens: Sequence[Token], flag: str, example: str) -> dict[str, str]:
    found = {}
    for token in tokens:
        name, equals, value = (part.strip() for part in token.value.partition("="))
        if not (name and equals):
            raise ConfigurationError(f"{flag}: {token.value!r}; expected NAME=VALUE, as in {flag} {example}.")
        found[name] = value
    return found


def _or_null(value: str) -> str | None:
    return None if value == "null" else value


def _repeated(flag: str, metavar: str, converter: Callable[..., object]) -> Parameter:
    return Parameter(
        name=flag,
        converter=converter,
        metavar=metavar,
        show_default=False,
        accepts_keys=False,
        n_tokens=-1,
        consume_multiple=False,
    )


Hyperparameters = Annotated[Changes, _repeated("--set", "NAME=VALUE", _from_assignments)]
Grid = Annotated[Values, _repeated("--grid", "NAME=A,B", _grid_from_assignments)]
Search = Annotated[Ranges, _repeated("--search", "NAME=LOW..HIGH", _ranges_from_assignments)]
Seeds = Annotated[
    list[Seed],
    Field(min_length=1),
    Parameter(converter=_seeds_from_text, metavar="A,B", n_tokens=-1, consume_multiple=False, negative=()),
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
            read += [f"--set={name}={'null' if value is None else value}" for name, value in changes.items()]
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
    if not isinstance(base, str) or base not in RECIPES:
        found = "names no recipe to start from" if base is None else f"starts from {base!r}, which is not a recipe"
        raise ConfigurationError(f"The recipe {path} {found}; expected base = one of {', '.join(RECIPES)}.")
    # TOML has no null
    given = {name: _or_null(value) if isinstance(value, str) else value for name, value in changes.items()}
    if others := [name for name in NOT_OF_A_RECIPE if name in given]:
        raise ConfigurationError(f"The recipe {path} has {others[0]}, which belongs to the command, not to a recipe.")
    return base, _validated(given, f"{path}: ", file=f"{path}: ")


def _validated(given: Any, where: str, kind: Any = Changes, file: str = "") -> Any:
    try:
        require_hyperparameters(given)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}{error}") from None
    try:
        return TypeAdapter(kind).validate_python(given)
    except ValidationError as error:
        raise ConfigurationError(invalid_value(f"{where}{error.errors()[0]['loc'][0]}", error)) from None
