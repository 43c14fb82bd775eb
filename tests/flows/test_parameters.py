"""The flows' signatures: the single definition of Prefect's form, its server's checks and the command line."""

import inspect

import pytest
from prefect.exceptions import ParameterBindError, ParameterTypeError
from prefect.utilities.schema_tools.validation import validate

from dcgan.recipe import RECIPES
from flows.cli import COMMANDS, main
from flows.train import resolved_recipe


def form(name: str) -> dict[str, object]:
    """Return the schema of a flow's parameters, from which Prefect makes its form and its server's checks."""
    return COMMANDS[name].flow.parameters.model_dump()


@pytest.mark.parametrize("name", COMMANDS)
def test_prefects_form_is_the_signature(name):
    """Every parameter is in the form, with the default of the signature and the description of the docstring."""
    flow = COMMANDS[name].flow
    parameters, fields = inspect.signature(flow.fn).parameters, form(name)["properties"]
    assert fields.keys() == parameters.keys()
    assert {key: field.get("default") for key, field in fields.items()} == {
        key: parameter.default for key, parameter in parameters.items()
    }
    documentation = " ".join(inspect.getdoc(flow.fn).split())
    for key, field in fields.items():
        assert f"{key}: {' '.join(field['description'].split())}" in documentation


@pytest.mark.parametrize("name", COMMANDS)
def test_the_forms_defaults_are_valid(name):
    """A flow run for which nothing is filled in is accepted; a promotion needs one of its two ways."""
    flow, fields = COMMANDS[name].flow, form(name)["properties"]
    defaults = {key: field.get("default") for key, field in fields.items()}
    assert validate(defaults, form(name)) == []
    assert flow.validate_parameters(defaults) == defaults


def test_the_form_offers_the_choices():
    """Choices are in the schema, so the form is a list to choose from."""
    fields = form("train")["properties"]
    assert fields["recipe"]["enum"] == list(RECIPES)
    assert fields["device"]["enum"] == ["auto", "cpu", "gpu"]
    assert fields["promotion"]["enum"] == ["auto", "manual"]
    assert {"minimum": 1, "type": "integer"} in fields["epochs"]["anyOf"]


@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [
        ("train", "recipe", "slow"),
        ("train", "epochs", 0),
        ("train", "epochs", 1.5),
        ("train", "seed", -1),
        ("train", "seed", 2**31),
        ("train", "source", ""),
        ("sweep", "seeds", []),
        ("sweep", "seeds", [-1]),
        ("sweep", "grid", {"batchsize": [1]}),
        ("sweep", "grid", {"batch_size": []}),
        ("sweep", "grid", {"batch_size": [0]}),
        ("sweep", "search", {"beta1": "0.3..0.9"}),
        ("sweep", "search", {"beta_1": ""}),
        ("sweep", "parallel", 0),
        ("sweep", "deployment", "train"),
        ("train", "source", "https://me:secret@host/x"),
        ("train", "resume", "../x"),
        ("train", "device", "tpu"),
        ("train", "device", None),
        ("train", "promotion", "never"),
        ("evaluate", "version", 0),
        ("evaluate", "version", "../x"),
        ("evaluate", "source", "https://me:secret@host/x"),
        ("promote", "version", 0),
        ("promote", "version", "champion"),
        ("generate", "version", "a b"),
        ("generate", "count", 0),
        ("generate", "count", 2_000_001),
        ("generate", "seed", -1),
    ],
)
def test_the_form_and_the_command_line_refuse_the_same(name, parameter, value, state, error_line):
    """A value that the schema refuses is refused by the flow itself, and by the command with exit code 2."""
    assert {error.path[0] for error in validate({parameter: value}, form(name))} == {parameter}
    with pytest.raises(ParameterTypeError, match=parameter):
        COMMANDS[name].flow.validate_parameters({parameter: value})
    assert main([name, f"--{parameter}={'null' if value is None else value}"]) == 2
    assert error_line().startswith(f"--{parameter}: ")
    assert not state.exists()


@pytest.mark.parametrize("name", ["train", "evaluate"])
@pytest.mark.parametrize("source", ["http://user:secret@host/x", "https://token@host", "s3://key:secret@bucket/x"])
def test_prefects_server_refuses_a_password(name, source):
    """A flow run with credentials in its source is refused before Prefect's server stores its parameters."""
    assert validate({"source": "https://host/user@x"}, form(name)) == []
    (error,) = validate({"source": source}, form(name))
    assert list(error.path) == ["source"]
    reasons = {each.validator for each in (error.context or [error])}  # evaluate's source may be null instead
    assert reasons <= {"pattern", "type"}
    assert "pattern" in reasons


@pytest.mark.parametrize(("value", "version"), [(3, 3), ("3", 3), ("champion", "champion"), ("v-2_x", "v-2_x")])
@pytest.mark.parametrize("name", ["evaluate", "generate"])
def test_a_version_is_a_number_or_an_alias(name, value, version):
    """Prefect's command line passes a number, this project's a text, either of them perhaps an alias."""
    assert COMMANDS[name].flow.validate_parameters({"version": value})["version"] == version


@pytest.mark.parametrize("value", [0, -1, "0", "", "../x", "a b", 1.5, None])
@pytest.mark.parametrize("name", ["evaluate", "generate"])
def test_what_cannot_be_a_version_is_refused(name, value):
    """Nothing else reaches the registry."""
    with pytest.raises(ParameterTypeError, match="version"):
        COMMANDS[name].flow.validate_parameters({"version": value})


@pytest.mark.parametrize("name", COMMANDS)
def test_unknown_parameters_are_refused(name, state):
    """A misspelt parameter is an error, not a default."""
    with pytest.raises(ParameterBindError, match="epoch"):
        COMMANDS[name].flow(epoch=3)
    assert not state.exists()


def test_epochs_replace_the_recipes():
    """`epochs` changes nothing else of the recipe."""
    assert resolved_recipe("classic", 3, {}) == RECIPES["classic"].model_copy(update={"epochs": 3})
    assert resolved_recipe("classic", None, {}) == RECIPES["classic"]
