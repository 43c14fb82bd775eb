"""The recipes: the reference's values, and a model that takes nothing else than it says."""

import math
from typing import get_args

import pytest
from pydantic import ValidationError

from dcgan.recipe import CLASSIC, FAST, IMAGE_SHAPE, LATENT_SIZE, RECIPES, SMOKE, Recipe, RecipeName

MNIST_ROWS = 60_000


def test_the_shapes_of_the_reference_implementation():
    """Latents have 100 numbers, images 28 × 28 pixels of one channel."""
    assert (LATENT_SIZE, IMAGE_SHAPE) == (100, (28, 28, 1))


def test_recipes_are_known_by_their_names():
    """Each recipe that a person may ask for is there under its own name, and no other."""
    assert {name: recipe.name for name, recipe in RECIPES.items()} == {name: name for name in get_args(RecipeName)}
    assert (RECIPES["classic"], RECIPES["fast"], RECIPES["smoke"]) == (CLASSIC, FAST, SMOKE)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_recipe_is_valid_as_a_whole(recipe):
    """Each recipe passes its own validation and survives JSON; it fits MNIST and has a checkpoint before its end."""
    assert Recipe.model_validate(recipe.model_dump()) == recipe
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert recipe.batch_size <= (recipe.max_images or MNIST_ROWS) <= MNIST_ROWS
    assert recipe.checkpoint_every <= recipe.epochs


def test_smoke_is_small():
    """`smoke` trains as `fast` does, on so few digits that it takes seconds."""
    assert SMOKE.epochs * (SMOKE.max_images or math.inf) <= 2000
    other = {
        "name",
        "epochs",
        "max_images",
        "checkpoint_every",
        "ema_half_life_images",
        "evaluate_every",
        "checkpoint_selection",
        "precision",
    }
    assert SMOKE.model_dump(exclude=other) == FAST.model_dump(exclude=other)


def test_recipe_is_frozen():
    """A recipe cannot be changed, so it can be shared."""
    with pytest.raises(ValidationError, match="frozen"):
        CLASSIC.epochs = 1


def test_every_field_is_described():
    """Each field says what it is: Prefect's form, `--help` and MLflow show it."""
    assert [name for name, field in Recipe.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", 1e-4),
        ("epochs", 0),
        ("epochs", -1),
        ("epochs", 2.5),
        ("epochs", "many"),
        ("batch_size", 0),
        ("generator_learning_rate", 0.0),
        ("generator_learning_rate", -1e-4),
        ("generator_learning_rate", math.nan),
        ("generator_learning_rate", math.inf),
        ("discriminator_learning_rate", 0.0),
        ("beta_1", 1.0),
        ("beta_1", -0.1),
        ("beta_1", math.nan),
        ("beta_2", 1.0),
        ("checkpoint_every", 0),
        ("max_images", 0),
        ("convolution", "winograd"),
        ("precision", "float16"),
    ],
)
def test_unusable_value_is_refused(field, value):
    """An unknown key and a value that cannot be trained with are refused, by the field's name."""
    with pytest.raises(ValidationError) as refused:
        Recipe.model_validate({**CLASSIC.model_dump(), field: value})
    assert [error["loc"] for error in refused.value.errors()] == [(field,)]


def test_missing_field_is_refused():
    """A recipe without a hyperparameter that has no default is refused."""
    with pytest.raises(ValidationError, match="batch_size"):
        Recipe.model_validate(CLASSIC.model_dump(exclude={"batch_size"}))
