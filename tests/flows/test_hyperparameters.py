"""Hyperparameters other than a recipe's: the same in Prefect's form, on the command line and in a file."""

import pytest
from prefect.exceptions import ParameterTypeError
from prefect.utilities.schema_tools.validation import validate

from dcgan.errors import ConfigurationError
from dcgan.recipe import RECIPES, Recipe
from flows.cli import app, main
from flows.hyperparameters import with_recipe_files
from flows.train import dcgan, resolved_recipe

FORM = dcgan.parameters.model_dump()
ENOUGH = 'base = "smoke"\n'


def parsed(*tokens: str) -> Recipe:
    """Return the recipe that a command line names."""
    arguments = app.parse_args(with_recipe_files(["train", *tokens]), exit_on_error=False, print_error=False)[
        1
    ].arguments
    parameters = dcgan.validate_parameters(arguments)
    return resolved_recipe(parameters.get("recipe", "fast"), parameters.get("epochs"), parameters["hyperparameters"])


def test_the_form_has_every_hyperparameter():
    """Each field of the recipe is in Prefect's form, with its description, and nothing but these is accepted."""
    fields = FORM["definitions"]["Changes"]["properties"]
    assert {name: field["description"] for name, field in fields.items()} == {
        name: field.description for name, field in Recipe.model_fields.items()
    }
    assert "required" not in FORM["definitions"]["Changes"]
    assert validate({"hyperparameters": {}}, FORM) == []
    assert validate({"hyperparameters": {"batch_size": 32, "max_images": None}}, FORM) == []


@pytest.mark.parametrize("changes", [{"batchsize": 3}, {"batch_size": 0}, {"beta_1": 1}, {"precision": "float16"}])
def test_the_form_and_the_flow_refuse_the_same(changes):
    """Prefect's server refuses what the recipe refuses, before a flow run is made."""
    assert validate({"hyperparameters": changes}, FORM)
    with pytest.raises(ParameterTypeError, match="hyperparameters"):
        dcgan.validate_parameters({"hyperparameters": changes})
    with pytest.raises(ConfigurationError):
        RECIPES["fast"].changed(changes)


def test_what_is_set_replaces_the_recipes():
    """Assignments may be repeated, the last one of a name wins, and nothing else of the recipe changes."""
    assignments = ("--set", "generator_learning_rate=1e-3", "--set=batch_size=32", "--set", "batch_size=128")
    changes = {"generator_learning_rate": 1e-3, "batch_size": 128, "max_images": None}
    expected = RECIPES["smoke"].model_copy(update=changes)
    assert parsed(*assignments, "--recipe", "smoke", "--set", "max_images=null") == expected


@pytest.mark.parametrize("order", [0, 1])
def test_a_file_changes_its_base_and_the_command_line_changes_the_file(order, tmp_path):
    """The file's values replace the recipe's, and `--set` replaces them, wherever it stands."""
    file = tmp_path / "mine.toml"
    file.write_text(f'{ENOUGH}name = "mine"\nbatch_size = 128\nbeta_1 = 0.25\n')
    parts = [("--recipe", str(file)), ("--set", "batch_size=32")]
    first, second = parts[order], parts[1 - order]
    expected = RECIPES["smoke"].model_copy(update={"name": "mine", "batch_size": 32, "beta_1": 0.25})
    assert parsed(*first, *second) == expected


def test_a_file_can_switch_something_off(tmp_path):
    """TOML has no null, so its name stands for it, as on the command line."""
    file = tmp_path / "mine.toml"
    file.write_text('base = "fast"\nhidden_units = "null"\n')
    assert parsed("--recipe", str(file)).hidden_units is None


def test_an_unchanged_recipe_is_itself():
    """Without changes the recipe is the recommended one, to the last field."""
    assert {name: resolved_recipe(name, None, {}) for name in RECIPES} == RECIPES


@pytest.mark.parametrize(
    ("assignments", "sentence"),
    [
        (["batchsize=3"], "There is no hyperparameter 'batchsize'; did you mean batch_size?"),
        (["x=3"], "There is no hyperparameter 'x'; expected one of name, epochs, batch_size, "),
        (
            ["latent_size=3"],
            "latent_size cannot be changed: every registered model has the same signature, 100 latents",
        ),
        (["batch_size"], "--set: 'batch_size'; expected NAME=VALUE, as in --set batch_size=128."),
        (["batch_size="], "--set batch_size: input should be a valid integer, unable to parse string as an integer, "),
        (["batch_size=0"], "--set batch_size: input should be greater than 0, not '0'."),
        (["beta_1=nan"], "--set beta_1: input should be a finite number, not 'nan'."),
        (["name=a/b"], "--set name: string should match pattern"),
        (["evaluate_every=null"], "recipe fast: checkpoint_selection=best needs evaluations; expected a number for"),
    ],
)
def test_an_assignment_that_cannot_be_is_one_sentence(assignments, sentence, state, error_line):
    """The error names the flag or value and what was expected, and nothing is begun."""
    assert main(["train", *(f"--set={assignment}" for assignment in assignments)]) == 2
    assert error_line().startswith(sentence)
    assert not state.exists()


def test_two_numbers_of_epochs_are_refused(state, error_line):
    """One of them would be lost without a word."""
    assert main(["train", "--epochs", "3", "--set", "epochs=4"]) == 2
    assert error_line() == "Two numbers of epochs are given, one of them as a hyperparameter; expected one."
    with pytest.raises(ConfigurationError, match="Two numbers of epochs"):
        resolved_recipe("fast", 3, {"epochs": 4})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "The recipe FILE cannot be read: No such file or directory."),
        (
            b"\xff",
            "The recipe FILE is not TOML: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte.",
        ),
        (b"base = fast", "The recipe FILE is not TOML: Invalid value (at line 1, column 8)."),
        (b"", "The recipe FILE names no recipe to start from; expected base = one of fast, classic, smoke."),
        (
            b'base = ["fast"]',
            "The recipe FILE starts from ['fast'], which is not a recipe; expected base = one of fast, ",
        ),
        (b'base = "slow"', "The recipe FILE starts from 'slow', which is not a recipe; expected base = one of fast, "),
        (f"{ENOUGH}batch_size = 0".encode(), "FILE: batch_size: input should be greater than 0, not 0."),
        (f"{ENOUGH}batchsize = 9".encode(), "FILE: There is no hyperparameter 'batchsize'; did you mean batch_size?"),
        (f"{ENOUGH}seed = 9".encode(), "The recipe FILE has seed, which belongs to the command, not to a recipe."),
        (f"{ENOUGH}[batch_size]\nx = 1".encode(), "FILE: batch_size: input should be a valid integer, not {'x': 1}."),
    ],
)
def test_a_file_that_cannot_be_a_recipe_is_one_sentence(content, sentence, tmp_path, state, error_line):
    """The file is named, with what is wrong in it, and nothing is begun."""
    file = tmp_path / "mine.toml"
    if content is not None:
        file.write_bytes(content)
    assert main(["train", f"--recipe={file}"]) == 2
    assert error_line().startswith(sentence.replace("FILE", str(file)))
    assert not state.exists()
