"""What a sweep tries: seeds, a grid of values, or ranges to search; all of it is validated before anything begins."""

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict

from dcgan.errors import ConfigurationError
from dcgan.provenance import code_digest
from dcgan.recipe import RECIPES, Recipe, RecipeName, require_hyperparameters

SEED = "seed"  # beside the hyperparameters of a point; no hyperparameter has this name
SEARCH_TRIALS = 10
MAX_TRIALS = 1000
SHOWN_DIGITS = 8  # of a fingerprint, for a reader

Value = int | float | str | None
Point = dict[str, Value]


class Range(BaseModel):
    """The values from `low` to `high`, both included, integers where both are."""

    model_config = ConfigDict(frozen=True)

    low: int | float
    high: int | float
    logarithmic: bool


class SweepPlan(BaseModel):
    """The trials of a sweep: each is the recipe with the values of one point.

    Attributes:
        name: What the user calls it.
        recipe: The recipe that every trial starts from.
        changes: Hyperparameters that are other than the recipe's in every trial.
        axes: What varies: the values or the range of each hyperparameter, and of `seed`.
        trials: Number of trials.
        searched: Whether each point is chosen by the trials before it.
        source: Source of the digits.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    recipe: RecipeName
    changes: dict[str, Value]
    axes: dict[str, Range | tuple[Value, ...]]
    trials: int
    searched: bool
    source: str

    @classmethod
    def of(  # noqa: PLR0913 - one for each parameter of the flow that matters here
        cls,
        *,
        recipe: RecipeName,
        changes: Mapping[str, Value],
        seeds: Sequence[int],
        grid: Mapping[str, Sequence[Value]],
        search: Mapping[str, str],
        trials: int | None,
        name: str | None,
        source: str,
    ) -> Self:
        """Return the plan that the parameters of a sweep describe.

        Args:
            recipe: Name of the recipe.
            changes: Hyperparameters that are other than the recipe's in every trial.
            seeds: Random seeds; a search has one.
            grid: Values to combine, by hyperparameter.
            search: Ranges as LOW..HIGH or LOW..HIGH:log, or values as A,B,C, by hyperparameter.
            trials: Number of trials of a search, by default 10.
            name: Name of the sweep, by default the recipe's.
            source: Source of the digits.

        Raises:
            ConfigurationError: They contradict one another, or a value is not valid for its hyperparameter.
        """
        base = RECIPES[recipe].changed(changes)
        for given in (grid, search):
            if both := sorted(given.keys() & changes.keys()):
                raise ConfigurationError(
                    f"{both[0]} is given twice, as one value and as several; expected one of them."
                )
        for other, set_otherwise in ((grid, "--grid"), (seeds[1:], "several --seeds")):
            if search and other:
                raise ConfigurationError(f"{set_otherwise} and --search exclude each other; expected one of them.")
        if trials and not search:
            raise ConfigurationError("--trials goes with --search; seeds and a grid have as many trials as points.")
        if search and base.evaluate_every is None:
            raise ConfigurationError(
                f"The recipe {base.name} is never evaluated, so a search has nothing to minimize; "
                "expected another recipe, or --set evaluate_every=1."
            )
        axes = {name: _axis(base, name, text) for name, text in search.items()} | {
            name: tuple(dict.fromkeys(_value(base, name, value) for value in values)) for name, values in grid.items()
        }
        count = (trials or SEARCH_TRIALS) if search else math.prod(len(set(a)) for a in (seeds, *axes.values()))
        if count == 1 and not search:
            raise ConfigurationError("Nothing varies; expected several --seeds, a --grid or a --search.")
        if count > MAX_TRIALS:
            raise ConfigurationError(f"The sweep has {count:,} trials; expected at most {MAX_TRIALS:,}.")
        plan = cls(
            name=name or base.name,
            recipe=recipe,
            changes=dict(changes),
            axes={**axes, SEED: tuple(dict.fromkeys(seeds))},
            trials=count,
            searched=bool(search),
            source=source,
        )
        for point in () if search else plan.points():
            plan.recipe_at(point)
        return plan

    @property
    def title(self) -> str:
        """The name with a part of the fingerprint, by which the sweep is found again."""
        return f"{self.name}-{self.fingerprint()[:SHOWN_DIGITS]}"

    @property
    def logarithmic(self) -> tuple[str, ...]:
        """The names of what is searched on a logarithmic scale."""
        return tuple(name for name, axis in self.axes.items() if isinstance(axis, Range) and axis.logarithmic)

    def fingerprint(self) -> str:
        """Return the SHA-256 that two sweeps share when they try the same with the same code, however many trials."""
        what = self.model_dump_json(exclude={"name", "trials"})
        return hashlib.sha256(f"{what}\n{RECIPES[self.recipe]!r}\n{code_digest()}".encode()).hexdigest()

    def points(self) -> list[Point]:
        """Return every combination of values, the seed varying fastest; a search has none, it asks for each point."""
        values = [axis for axis in self.axes.values() if not isinstance(axis, Range)]
        return [dict(zip(self.axes, point, strict=True)) for point in itertools.product(*values)]

    def recipe_at(self, point: Point) -> Recipe:
        """Return the recipe that is trained at a point."""
        return RECIPES[self.recipe].changed(self.changes_at(point))

    def changes_at(self, point: Point) -> dict[str, Value]:
        """Return the hyperparameters in which a point's training run differs from the recipe."""
        return {**self.changes, **{name: value for name, value in point.items() if name != SEED}}


def _axis(base: Recipe, name: str, text: str) -> Range | tuple[Value, ...]:
    """Return the range or the values that a text describes, of the hyperparameter's own type."""
    require_hyperparameters([name])
    ends, _, scale = text.partition(":")
    if ".." not in ends:
        values = tuple(dict.fromkeys(_value(base, name, value.strip()) for value in text.split(",")))
        if len(values) == 1:
            raise ConfigurationError(f"--search {name}: {text!r}; expected LOW..HIGH, LOW..HIGH:log, or values as A,B.")
        return values
    low, high = (_value(base, name, end.strip()) for end in ends.split("..", 1))
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        raise ConfigurationError(
            f"--search {name}: {text!r}; {name} is not a number, so expected its values, as in A,B."
        )
    if scale not in ("", "log") or not low < high or (scale and low <= 0):
        raise ConfigurationError(
            f"--search {name}: {text!r}; expected LOW..HIGH with LOW below HIGH, or LOW..HIGH:log above zero."
        )
    return Range(low=low, high=high, logarithmic=bool(scale))


def _value(base: Recipe, name: str, value: Value) -> Value:
    """Return a value as the recipe has it, of the hyperparameter's own type."""
    changed: Value = getattr(base.changed({name: None if value == "null" else value}), name)
    return changed
