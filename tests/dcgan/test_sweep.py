"""What a sweep tries: points and ranges from its parameters, and what is refused before anything begins."""

import pytest

from dcgan.errors import ConfigurationError
from dcgan.recipe import RECIPES
from dcgan.sweep import Range, SweepPlan


def plan(**changed: object) -> SweepPlan:
    """Return the plan of a sweep with these parameters, the others as by default."""
    parameters = {"recipe": "smoke", "changes": {}, "seeds": [0], "grid": {}, "search": {}, "trials": None}
    return SweepPlan.of(**{**parameters, "name": None, "source": "auto", **changed})


def test_a_grid_is_every_combination_with_every_seed():
    """The seed varies fastest, values have the hyperparameter's own type, and repeated ones count once."""
    made = plan(seeds=[3, 5, 3], grid={"batch_size": ["64", 128, 64], "hidden_units": ["null", 32]})
    assert made.points() == [
        {"batch_size": size, "hidden_units": units, "seed": seed}
        for size in (64, 128)
        for units in (None, 32)
        for seed in (3, 5)
    ]
    assert made.trials == 8


def test_the_recipe_at_a_point_has_its_values():
    """Only what is set and what varies differs from the recipe; the seed is none of its fields."""
    made = plan(changes={"epochs": 7}, seeds=[1, 2], grid={"beta_1": [0.25]})
    expected = RECIPES["smoke"].model_copy(update={"epochs": 7, "beta_1": 0.25})
    assert [made.recipe_at(point) for point in made.points()] == [expected, expected]
    assert made.changes_at(made.points()[0]) == {"epochs": 7, "beta_1": 0.25}


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("1e-4..4e-3", Range(low=1e-4, high=4e-3, logarithmic=False)),
        ("1e-4..4e-3:log", Range(low=1e-4, high=4e-3, logarithmic=True)),
        (".001 .. 1", Range(low=0.001, high=1.0, logarithmic=False)),
        ("1e-3,2e-3", (0.001, 0.002)),
    ],
)
def test_a_search_has_ranges_or_values(text, axis):
    """A range says whether it is searched on a logarithmic scale; values are listed."""
    made = plan(recipe="fast", search={"generator_learning_rate": text})
    assert made.axes == {"generator_learning_rate": axis, "seed": (0,)}
    assert (made.trials, made.searched) == (10, True)


def test_a_range_of_integers_stays_one():
    """The type of a hyperparameter decides, not the way in which its ends are written."""
    axes = plan(recipe="fast", search={"batch_size": "32..128", "r1_gamma": "0..2"}).axes
    assert [type(axes[name].low) for name in ("batch_size", "r1_gamma")] == [int, float]


def test_the_same_sweep_has_the_same_title():
    """More trials continue it; other values, seeds, changes or sources are another sweep."""
    first = plan(recipe="fast", search={"beta_1": "0.3..0.9"}, trials=3, name="mine")
    assert first.title.startswith("mine-")
    assert plan(recipe="fast", search={"beta_1": "0.3..0.9"}, trials=9, name="mine").title == first.title
    others = [
        plan(recipe="fast", search={"beta_1": "0.3..0.8"}, name="mine"),
        plan(recipe="fast", search={"beta_1": "0.3..0.9"}, name="mine", seeds=[1]),
        plan(recipe="fast", search={"beta_1": "0.3..0.9"}, name="mine", changes={"epochs": 1}),
        plan(recipe="fast", search={"beta_1": "0.3..0.9"}, name="mine", source="bundled"),
        plan(recipe="fast", search={"beta_1": "0.3..0.9"}, name="other"),
        plan(recipe="classic", search={"beta_1": "0.3..0.9"}, name="mine"),
    ]
    assert len({first.title, *(other.title for other in others)}) == 7


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({}, "Nothing varies; expected several --seeds, a --grid or a --search."),
        ({"seeds": [4, 4]}, "Nothing varies"),
        ({"grid": {"batchsize": [1, 2]}}, "There is no hyperparameter 'batchsize'; did you mean batch_size?"),
        ({"grid": {"batch_size": [0, 2]}}, "batch_size: input should be greater than 0, not 0."),
        ({"grid": {"epochs": [1, 2]}, "changes": {"epochs": 3}}, "epochs is given twice, as one value and as several"),
        ({"grid": {"checkpoint_selection": ["best", "last"]}}, "recipe smoke: checkpoint_selection=best needs"),
        ({"seeds": list(range(1001))}, "The sweep has 1,001 trials; expected at most 1,000."),
        ({"seeds": [1, 2], "trials": 3}, "--trials goes with --search; seeds and a grid have as many trials as points"),
        (
            {"search": {"beta_1": "0.3..0.9"}},
            "The recipe smoke is never evaluated, so a search has nothing to minimize",
        ),
        (
            {"search": {"beta1": "0.3..0.9"}, "recipe": "fast"},
            "There is no hyperparameter 'beta1'; did you mean beta_1?",
        ),
        ({"search": {"beta_1": "0.9..0.3"}, "recipe": "fast"}, "--search beta_1: '0.9..0.3'; expected LOW..HIGH with"),
        ({"search": {"beta_1": "0..0.9:log"}, "recipe": "fast"}, "--search beta_1: '0..0.9:log'; expected LOW..HIGH"),
        ({"search": {"beta_1": "0.1..0.9:lin"}, "recipe": "fast"}, "--search beta_1: '0.1..0.9:lin'; expected"),
        ({"search": {"beta_1": "0.5"}, "recipe": "fast"}, "--search beta_1: '0.5'; expected LOW..HIGH, LOW..HIGH:log"),
        ({"search": {"beta_1": "0..3"}, "recipe": "fast"}, "beta_1: input should be less than 1, not '3'."),
        (
            {"search": {"convolution": "auto..dft"}, "recipe": "fast"},
            "--search convolution: 'auto..dft'; convolution is",
        ),
        ({"search": {"beta_1": "0..1"}, "grid": {"epochs": [1]}, "recipe": "fast"}, "--grid and --search exclude each"),
        (
            {"search": {"beta_1": "0..1"}, "seeds": [1, 2], "recipe": "fast"},
            "several --seeds and --search exclude each",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(changed, sentence):
    """It names what is wrong, and what was expected."""
    with pytest.raises(ConfigurationError) as caught:
        plan(**changed)
    assert str(caught.value).startswith(sentence)
    assert str(caught.value).endswith(".") or str(caught.value).endswith("?")


def test_a_search_needs_evaluations_and_can_ask_for_them():
    """A recipe that evaluates nothing is searched once it evaluates."""
    assert plan(search={"beta_1": "0.3..0.9"}, changes={"evaluate_every": 1}).searched
